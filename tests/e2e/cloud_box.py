"""The cloud: a hub of three servers, Redis, and two replicas of every cloud unit and of spire_integration, each known
by the certificate that its helper keeps. Only the hub's servers have a password too, among each other.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from boxes import Box, Run
from cluster_box import CLOUD_NAMESPACE, ClusterBox
from specs import STORE, TAG, Spec, holder, image
from spire_box import HUB, IDENTITY, SPIRE_INTEGRATION, TD, Spire, user_of

from canopy.bus.config import Cluster, Hub, HubTrust, route_url
from canopy.contracts.roles import CLOUD_UNITS
from canopy.testing.child import free_port

HERE = Path(__file__).parent
HUB_SERVERS = tuple(f"hub-{i}" for i in (1, 2, 3))
HUB_URL = ",".join(f"tls://{server}:4222" for server in HUB_SERVERS)
LEAF_URL = ",".join(f"tls://{server}:7422" for server in HUB_SERVERS)
REPLICAS = 2
ASK_SECONDS = 30.0
MONITOR, HEALTH, API, JOIN, SPANS = 8222, 8081, 8080, 8443, 4318
JOIN_URL = f"https://join:{JOIN}"
"""Either replica of spire_integration answers by this name."""
WHEN_IT_HAS_ONE = f"until [ -s {IDENTITY}/svid.pem ]; do sleep 0.2; done; exec nats-server"


class Cloud:
    """`units` are the replicas by unit, spire_integration's too; `hub` its servers."""

    def __init__(self, run: Run, spire: Spire, cluster: ClusterBox, redis: str) -> None:
        self._run, self._spire, self._cluster, self._redis = run, spire, cluster, redis
        self.units: dict[str, list[Box]] = {}
        self.hub: list[Box] = []
        self.api_ports = [free_port() for _ in range(REPLICAS)]
        self._spans_port = free_port()

    async def start_hub(self) -> None:
        """SPIRE is there: the hub, and spire_integration, which lets others in. Each waits for whom it needs."""
        await self._run.box(holder("hub-processes", memory="64m")).start()
        boxes = [*self._hub_servers(), *self._units(SPIRE_INTEGRATION, self._spire_integration)]
        await asyncio.gather(*(box.start() for box in boxes))

    async def start_units(self) -> None:
        """Kubernetes is there too."""
        folders = {unit: self._cluster.folder_of(unit) for unit in CLOUD_UNITS}
        boxes = [box for u in CLOUD_UNITS for box in self._units(u, partial(self._unit, u, folders[u]))]
        await asyncio.gather(*(box.start() for box in boxes))

    async def start_stores(self) -> None:
        redis = Spec("redis", self._redis, **_redis(self._redis), networks=("cloud",))
        receiver = self._run.folder("otlp")
        (receiver / "receiver.py").write_text((HERE / "otlp_receiver.py").read_text())
        (receiver / "receiver.py").chmod(0o644)
        otlp = Spec(
            "otlp",
            image("cloudhub"),
            entrypoint=("python3", "/otlp/receiver.py"),
            ports={SPANS: self._spans_port},
            mounts={receiver: "/otlp"},
            networks=("cloud",),
            health=f"http://127.0.0.1:{self._spans_port}/spans",
        )
        await asyncio.gather(*(self._run.box(spec).start() for spec in (redis, otlp)))

    async def spans(self) -> list[dict[str, str]]:
        """What the OTLP receiver has taken: trace, span, parent, name, service."""
        async with httpx.AsyncClient(trust_env=False, timeout=ASK_SECONDS) as client:
            found: list[dict[str, str]] = (await client.get(f"http://127.0.0.1:{self._spans_port}/spans")).json()
        return found

    async def asked(self, path: str, key: str) -> list[dict[str, Any]]:
        """What each of the hub's servers says, with its name as `server`."""
        found = list[dict[str, Any]]()
        for server in self.hub:
            root = server.spec.health.partition("/healthz")[0]
            async with httpx.AsyncClient(trust_env=False, base_url=root, timeout=ASK_SECONDS) as client:
                found += [{**one, "server": server.name} for one in (await client.get(path)).json().get(key) or ()]
        return found

    # --- the hub ------------------------------------------------------------------------------------------------------
    def _hub_servers(self) -> list[Box]:
        """The servers, and a helper each, who tells its server of a new certificate by a signal."""
        password = secrets.token_urlsafe(18)
        helpers = [
            self._spire.helper(name, HUB, "--pid-file", f"{IDENTITY}/nats.pid", processes="hub-processes")
            for name in HUB_SERVERS
        ]
        self.hub = [self._run.box(self._hub_server(name, password)) for name in HUB_SERVERS]
        return [*helpers, *self.hub]

    def _hub_server(self, name: str, password: str) -> Spec:
        folder, port = self._run.folder(name), free_port()
        (folder / "nats.conf").write_text(self._hub_config(name, password))
        (folder / "nats.conf").chmod(0o644)
        return Spec(
            name,
            image("nats"),
            env={"GOMEMLIMIT": "300MiB"},
            entrypoint=("sh", "-c", f"{WHEN_IT_HAS_ONE} -c /etc/nats/nats.conf -P {IDENTITY}/nats.pid"),
            ports={MONITOR: port},
            mounts={folder: "/etc/nats"},
            volumes={name: STORE},
            in_memory={f"identity-{name}": IDENTITY},
            networks=("cloud", "uplink"),
            processes="hub-processes",
            health=f"http://127.0.0.1:{port}/healthz?js-server-only=true",
        )

    def _hub_config(self, name: str, password: str) -> str:
        routes = tuple(route_url(f"{other}:6222", password) for other in HUB_SERVERS if other != name)
        trust = HubTrust(f"{IDENTITY}/svid.pem", f"{IDENTITY}/bundle.pem", *self._spire.nkeys.public)
        cluster = Cluster(name, "0.0.0.0:6222", password, routes)
        listens = ("0.0.0.0:4222", "0.0.0.0:7422", f"0.0.0.0:{MONITOR}")
        return Hub(f"{STORE}/js", trust, *listens, cluster).text()

    # --- the units ----------------------------------------------------------------------------------------------------
    def _units(self, unit: str, spec: Callable[[int], Spec]) -> list[Box]:
        """Its helper and its replicas."""
        self.units[unit] = [self._run.box(spec(i)) for i in range(1, REPLICAS + 1)]
        return [self._spire.helper(unit, unit), *self.units[unit]]

    def _unit(self, unit: str, kubeconfig: Path, replica: int) -> Spec:
        prefix = f"CANOPY_{unit.upper()}_"
        env = {f"{prefix}KUBECONFIG": "/etc/canopy/kubeconfig"}
        if unit != "cloudhub":
            env[f"{prefix}LEASE_NAMESPACE"] = CLOUD_NAMESPACE
            return self._replica(unit, replica, env, {kubeconfig: "/etc/canopy"})
        env |= {
            f"{prefix}API_LISTEN": f"0.0.0.0:{API}",
            f"{prefix}CACHE_URL": "redis://redis:6379/0",
            f"{prefix}BEAT_SECONDS": "2",
            "CANOPY_OTLP_ENDPOINT": f"http://otlp:{SPANS}",
        }
        spec = self._replica(unit, replica, env, {kubeconfig: "/etc/canopy"})
        return replace(spec, ports={**spec.ports, API: self.api_ports[replica - 1]})

    def _spire_integration(self, replica: int) -> Spec:
        prefix = "CANOPY_SPIRE_INTEGRATION_"
        env = {
            f"{prefix}AUTHORITY": "spire",
            f"{prefix}SPIRE_ADDRESS": "spire-server:8081",
            f"{prefix}KEYS_DIR": "/etc/canopy/keys",
            f"{prefix}ENTRIES_FILE": "/etc/canopy/entries.json",
            f"{prefix}JOIN_LISTEN": f"0.0.0.0:{JOIN}",
            f"{prefix}JOIN_URL": JOIN_URL,
            f"{prefix}JOIN_HUB_URL": LEAF_URL,
        }
        mounts = {self._spire.keys: "/etc/canopy/keys", self._spire.entries: "/etc/canopy/entries.json"}
        spec = self._replica(SPIRE_INTEGRATION, replica, env, mounts)
        return replace(spec, networks=("cloud", "uplink", "spire"), aliases=("join",))

    def _replica(self, unit: str, replica: int, more: dict[str, str], mounts: dict[Path, str]) -> Spec:
        health = free_port()
        env = {
            "CANOPY_TRUST_DOMAIN": TD,
            "CANOPY_NATS_URL": HUB_URL,
            "CANOPY_IDENTITY_DIR": IDENTITY,
            "CANOPY_STREAM_REPLICAS": str(len(HUB_SERVERS)),
            "CANOPY_INSECURE_LISTEN": "true",
        }
        return Spec(
            f"{unit}-{replica}",
            image_of(unit),
            env={**env, **more},
            mounts=mounts,
            volumes={f"{unit}-{replica}": STORE},
            in_memory={f"identity-{unit}": f"{IDENTITY}:ro"},
            networks=("cloud",),
            ports={HEALTH: health},
            user=user_of(unit),
            health=f"http://127.0.0.1:{health}/readyz",
        )


def image_of(unit: str, tag: str = TAG) -> str:
    return image(unit.replace("-", "_"), tag)


def _redis(name: str) -> dict[str, Any]:
    """Ours keeps what it holds in a volume. Other images have a folder of other users there, and would refuse to write
    once they have failed to save: they keep nothing, as a cache may."""
    if name.startswith("canopy/"):
        return {"volumes": {"redis": "/data"}}
    return {"command": ("redis-server", "--protected-mode", "no", "--save", "", "--dir", "/tmp")}

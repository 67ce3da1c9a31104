"""Both trusts on this machine, for a `System`.

The fleet's: keys of the hub, the built-in authority, and spire_integration's replicas, which write the identities of
hub and cloud before anything can connect. A node's: what edgeidentity keeps in a folder of the node.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from canopy.bus.trust import HubTrust
from canopy.contracts.roles import EDGEIDENTITY, SPIRE_INTEGRATION
from canopy.identity.hubkeys import HubKeys
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE
from canopy.identity.join import Credential, join
from canopy.identity.joining_words import parse
from canopy.testing.child import HOST, LOOK_SECONDS, free_port
from canopy.testing.processes import READY_SECONDS, NotReady, Process
from canopy.testing.servers import LEAF_GO, NAME, NatsServer, RunningHub, RunningLeaf, hub
from canopy.testing.units import Units

TRUST_DOMAIN = "canopy.test"


@dataclass
class Trust:
    """`directory` holds keys, authority and identities; `hub_ports` and `leaf_ports` are where the hub's servers will
    listen, `hub_folder` is theirs."""

    directory: Path
    hub_folder: Path
    hub_ports: tuple[int, ...]
    leaf_ports: tuple[int, ...]
    replicas: int
    units: Units
    processes: dict[str, Process] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path, hub_servers: int, replicas: int, units: Units) -> "Trust":
        """Of the system in `directory`."""
        clients, leaves = (tuple(free_port() for _ in range(hub_servers)) for _ in range(2))
        return cls(directory / "trust", directory / "hub", clients, leaves, replicas, units)

    @property
    def hub(self) -> HubTrust:
        keys, files = HubKeys.ensure(self.directory / "keys"), self.directory / "identities" / "hub"
        return HubTrust(str(files / SVID_FILE), str(files / BUNDLE_FILE), *keys.public)

    @property
    def hub_url(self) -> str:
        return ",".join(f"nats://{HOST}:{port}" for port in self.hub_ports)

    def cloud(self, unit: str) -> dict[str, str]:
        """Settings by which a process of the cloud is `unit` at the hub."""
        folder = self.directory / "identities" / "cloud" / unit
        return {"IDENTITY_DIR": str(folder), "TRUST_DOMAIN": TRUST_DOMAIN}

    async def begin(self) -> None:
        """Start the replicas, and wait until the hub can be started. Raises NotReady."""
        HubKeys.ensure(self.directory / "keys")
        for number in range(1, self.replicas + 1):
            name = SPIRE_INTEGRATION if number == 1 else f"{SPIRE_INTEGRATION}-{number}"
            self.processes[name] = self.units.process(name, (SPIRE_INTEGRATION,), self._settings(name, number))
            self.processes[name].spawn()
        await _written(Path(self.hub.svid), self.processes[SPIRE_INTEGRATION])

    async def open_hub(self) -> RunningHub:
        """Start its servers. Raises NoServer."""
        servers, trust = len(self.hub_ports), self.hub
        return await hub(
            self.hub_folder, ports=self.hub_ports, leaf_ports=self.leaf_ports, servers=servers, trust=trust
        )

    async def ready(self) -> None:
        """Every replica answers."""
        await asyncio.gather(*(process.ready() for process in self.processes.values()))

    def _hub_log(self, number: int) -> Path:
        """Of one server: each replica audits what TLS refuses at one of them."""
        return (self.hub_folder / f"hub-{number}" if len(self.hub_ports) > 1 else self.hub_folder) / "nats.log"

    def _settings(self, name: str, number: int) -> dict[str, str]:
        own = {
            "KEYS_DIR": self.directory / "keys",
            "BUILTIN_DIR": self.directory / "authority",
            "WRITE_FILES_DIR": self.directory / "identities",
            "HUB_DNS": NAME,
            "JOIN_LISTEN": f"{HOST}:{free_port()}",
            "JOIN_HUB_URL": ",".join(f"tls://{NAME}:{port}" for port in self.leaf_ports),
            **({"HUB_LOG": self._hub_log(number)} if number <= len(self.hub_ports) else {}),
        }
        settings = {f"{SPIRE_INTEGRATION.upper()}_{key}": str(value) for key, value in own.items()}
        return {
            **settings,
            **self.cloud(SPIRE_INTEGRATION),
            "NATS_URL": self.hub_url,
            "DATA_DIR": str(self.directory / name),
        }


@dataclass(frozen=True)
class Home:
    """A node whose identities and leaf's configuration edgeidentity keeps. `mqtt_port` is the plain one, open on
    loopback because the settings name it; devices with a certificate come by `mqtt_tls_port`."""

    name: str
    folder: Path
    leaf_port: int = field(default_factory=free_port)
    mqtt_port: int = field(default_factory=free_port)
    mqtt_tls_port: int = field(default_factory=free_port)

    @property
    def identity(self) -> Path:
        return self.folder / "identity"

    @property
    def leaf_url(self) -> str:
        return f"nats://{HOST}:{self.leaf_port}"

    def unit(self, name: str) -> dict[str, str]:
        """Settings by which a process of this node is unit `name` (or EDGE) at its leaf."""
        return {
            "NATS_URL": self.leaf_url,
            "IDENTITY_DIR": str(self.identity / "units" / name),
            "TRUST_DOMAIN": TRUST_DOMAIN,
            "DATA_DIR": str(self.folder / name),
            "NODE_NAME": self.name,
        }

    def edgeidentity(self, hub_url: str) -> dict[str, str]:
        """Settings of edgeidentity, in whatever process it runs."""
        own = {
            "FOLDER": self.identity,
            "STORE_FOLDER": self.folder / "leaf" / "js",
            "HUB_URL": hub_url,
            "LEAF_LISTEN": f"{HOST}:{self.leaf_port}",
            "MQTT_LISTEN": f"{HOST}:{self.mqtt_tls_port}",
            "PLAIN_LISTEN": f"{HOST}:{self.mqtt_port}",
            "LEAF_LOG": self.folder / "leaf" / "nats.log",
        }
        return {f"{EDGEIDENTITY.upper()}_{key}": str(value) for key, value in own.items()}

    async def join(self, token: str) -> None:
        """What `canopy join` does."""
        found = parse(token)
        credential = Credential(token_id=found.id, secret=found.secret)
        await join(self.identity / "join", found.node, (found.url,), found.root, credential)

    async def leaf(self, edgeidentity: Process) -> RunningLeaf:
        """Start the leaf's nats-server as soon as its configuration is there. Raises NotReady, NoServer."""
        config = self.identity / "nats.conf"
        await _written(config, edgeidentity)
        ports = (self.leaf_port, self.mqtt_tls_port)
        server = await NatsServer.open(config, self.folder / "leaf", ports, LEAF_GO)
        return RunningLeaf(server, self.name, self.leaf_url, self.mqtt_port, None)


async def _written(file: Path, by: Process) -> None:
    """Until the process has written it. Raises NotReady."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not file.exists():  # noqa: ASYNC240
                if not by.running:
                    raise NotReady(by.name, "ended while starting", by.log)
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise NotReady(by.name, f"has not written {file} after {READY_SECONDS:g} s", by.log) from None

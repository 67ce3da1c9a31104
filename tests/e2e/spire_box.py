"""The fleet's authority: SPIRE's server and its one agent, from the files of deploy/compose; and a helper of Canopy
beside each unit of the cloud and each server of the hub, which keeps its identity in a volume in memory.

The agent knows a unit by the group that its containers run in.
"""

import asyncio
import importlib.util
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from boxes import Box, Run
from specs import STORE, Spec, image

from canopy.identity import joinroot
from canopy.identity.hubkeys import HubKeys
from canopy.testing.child import free_port

ROOT = Path(__file__).parents[2]
COMPOSE, SCRIPTS = ROOT / "deploy/compose", ROOT / "deploy/k8s/base/spire-server"
SPIRE_INTEGRATION, HUB, TD = "spire-integration", "hub", "fleet.test"
GROUPS = {"cloudhub": 65601, "devicecontroller": 65602, "edgecontroller": 65603, SPIRE_INTEGRATION: 65604, HUB: 65605}
"""Of deploy/compose/spire/entries.json."""
IDENTITY, SOCKET = "/run/canopy", "/run/spire/agent"
HEALTH = 8080
HELPER_MEMORY = "128m"


def user_of(unit: str) -> str:
    """By its group the agent knows it."""
    return f"65532:{GROUPS[unit]}"


class Spire:
    """`keys` and `entries` are what spire_integration reads; `nkeys` what the hub knows it by."""

    def __init__(self, run: Run) -> None:
        self._run, self._folder = run, run.folder("spire")
        self.keys, self.entries = self._folder / "keys", COMPOSE / "spire/entries.json"
        self.nkeys = HubKeys.ensure(self.keys)
        joinroot.at(self.keys, TD, time.time())
        for name, pem in _prepare().agent_certificates().items():
            (self._folder / name).write_bytes(pem)
        for path in self._folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # users of containers read them; the run's folder is ours

    @property
    def server(self) -> Box:
        return self._run.boxes["spire-server"]

    @property
    def agent(self) -> Box:
        return self._run.boxes["spire-agent"]

    async def start(self) -> None:
        await self._run.box(self._server()).start()
        await asyncio.gather(self._run.box(self._agent()).start(), self._run.box(self._registrar()).start())

    def helper(self, name: str, of: str, *more: str, **spec: Any) -> Box:
        """Keeps the identity of `of` in the volume `identity-NAME`, for whoever bears that name."""
        command = ("--socket", f"{SOCKET}/api.sock", "--dir", IDENTITY, *more)
        volumes = {f"identity-{name}": IDENTITY, "spire-agent": f"{SOCKET}:ro"}
        kept = {"command": command, "in_memory": volumes, "user": user_of(of), "memory": HELPER_MEMORY}
        return self._run.box(Spec(f"{name}-identity", image("identity"), **kept, **spec))

    def _part(self, name: str, mounts: dict[Path, str], **more: Any) -> Spec:
        env = {"TRUST_DOMAIN": TD, "CA_TTL": "168h", "X509_SVID_TTL": "1h"}
        conf = f"/etc/spire/{name.removeprefix('spire-')}.conf"
        mounts = {COMPOSE / "spire" / Path(conf).name: conf, **mounts}
        command = ("run", "-config", conf, "-expandEnv")
        networks, memory = ("spire",), "512m"
        return Spec(
            name, image(name), env=env, command=command, mounts=mounts, networks=networks, memory=memory, **more
        )

    def _server(self) -> Spec:
        health = free_port()
        return self._part(
            "spire-server",
            {self._folder / "agents.crt": "/etc/spire/agents.crt"},
            volumes={"spire-server": STORE},
            in_memory={"spire-server-socket": "/run/spire"},
            ports={HEALTH: health},
            health=f"http://127.0.0.1:{health}/ready",
        )

    def _agent(self) -> Spec:
        """It looks at the process that asks, so it sees those of all containers."""
        files = {self._folder / name: f"/etc/spire/{name}" for name in ("agent.crt", "agent.key")}
        return self._part("spire-agent", files, in_memory={"spire-agent": SOCKET}, processes="host")

    def _registrar(self) -> Spec:
        return Spec(
            "spire-entries",
            image("spire-server"),
            env={"TRUST_DOMAIN": TD, "ENTRIES_FILE": "/etc/spire/first"},
            entrypoint=("sh", "/etc/spire/entries.sh"),
            mounts={SCRIPTS / "entries.sh": "/etc/spire/entries.sh", COMPOSE / "spire/first": "/etc/spire/first"},
            in_memory={"spire-server-socket": "/run/spire"},
        )


def _prepare() -> ModuleType:
    """deploy/compose/prepare.py."""
    spec = importlib.util.spec_from_file_location("compose_prepare", COMPOSE / "prepare.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""Containers of one run, by testcontainers: each is made from a Spec, so that it can be killed, started, or made anew.

Everything that a run makes bears its label. `swept` removes what bears the label of a run, or of one whose process is
no more: a run that was killed leaves nothing for longer than until the next one.
"""

import asyncio
import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.errors import APIError, NotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from canopy.testing.processes import birth

LABEL, OWNER = "dev.canopy.e2e.run", "dev.canopy.e2e.owner"
READY_SECONDS = 60.0
STOP_SECONDS = 15
LOOK_SECONDS = 0.1
MEMORY = "400m"
RSS = "print(next(l.split()[1] for l in open('/proc/1/status') if l.startswith('VmRSS')))"
IN_MEMORY = "uid=65532,gid=65532,mode=0700,size=1m"
WAIT_FOR_THE_END = "import signal as s; s.pthread_sigmask(s.SIG_BLOCK, {2, 15}); s.sigwait({2, 15})"
"""What holds a network namespace: the sidecars of a node outlive each other, also their leaf."""

testcontainers_config.ryuk_disabled = True  # its image may not be there to be pulled; `swept` does its work


class NotReady(RuntimeError):
    """A container did not become ready; the text ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A container as it should be. `ports` and `health` are (inside -> on loopback of this machine); `inside` names the
    box whose network namespace it shares; `mounts` are read-only, `volumes` and `in_memory` are the run's own.
    `processes` names the box whose processes it sees, or is `host`."""

    name: str
    image: str
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    ports: Mapping[int, int] = field(default_factory=dict)
    mounts: Mapping[Path, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    in_memory: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    inside: str = ""
    processes: str = ""
    health: str = ""
    """The URL that says 200 when it is ready; empty: it is ready when it runs."""
    user: str = "65532:65532"
    memory: str = MEMORY
    tmp: str = "64m"


class Run:
    """One run: its label, its networks and volumes, its boxes by name, and a folder."""

    def __init__(self, directory: Path) -> None:
        self.id, self.directory = uuid.uuid4().hex[:8], directory
        self.client = docker.from_env()
        self.labels = {LABEL: self.id, OWNER: f"{os.getpid()} {birth(os.getpid())}"}
        self.boxes: dict[str, Box] = {}
        self._networks: dict[str, Network] = {}

    def network(self, name: str, internal: bool = False) -> None:
        """A network of that name; an internal one leads nowhere else."""
        made = Network(docker_network_kw={"labels": self.labels, "internal": internal, "driver": "bridge"})
        made.name = f"canopy-e2e-{self.id}-{name}"
        self._networks[name] = made.create()

    def network_of(self, name: str) -> Network:
        return self._networks[name]

    def volume(self, name: str, in_memory: bool = False) -> str:
        """The full name of a volume, made if it is not there."""
        full = f"canopy-e2e-{self.id}-{name}"
        options = {"type": "tmpfs", "device": "tmpfs", "o": IN_MEMORY} if in_memory else {}
        self.client.volumes.create(full, driver="local", driver_opts=options, labels=self.labels)
        return full

    def folder(self, name: str) -> Path:
        """A folder whose files the users of containers may read."""
        found = self.directory / name
        found.mkdir(parents=True, exist_ok=True)
        found.chmod(0o755)
        return found

    def box(self, spec: Spec) -> "Box":
        made = self.boxes[spec.name] = Box(self, spec)
        return made

    async def gone(self) -> None:
        """Everything of this run is removed, its folder with the passwords too."""
        await asyncio.to_thread(swept, self.id)
        shutil.rmtree(self.directory, ignore_errors=True)


class Box:
    """One container. Its name stays when it is made anew; so do its ports on this machine and its volumes."""

    def __init__(self, run: Run, spec: Spec) -> None:
        self._run, self.spec = run, spec
        self._container: Any = None
        self.earlier_logs: list[bytes] = []
        self.ready_seconds = 0.0

    @property
    def name(self) -> str:
        return self.spec.name

    async def start(self) -> "Box":
        """Make it (or start it again), and wait until it is ready."""
        began = time.monotonic()
        await asyncio.to_thread(self._start)
        await self.ready()
        self.ready_seconds = time.monotonic() - began
        return self

    async def kill(self) -> None:
        """SIGKILL; volumes and name stay."""
        await asyncio.to_thread(self._container.kill)

    async def stop(self) -> None:
        """SIGTERM, as an engine does it."""
        await asyncio.to_thread(lambda: self._container.stop(timeout=STOP_SECONDS))

    async def signal(self, name: str) -> None:
        await asyncio.to_thread(lambda: self._container.kill(signal=name))

    async def remade(self, **changes: Any) -> None:
        """Stop it, remove it, and make another in its place, of another image maybe: an update."""
        await self.stop()
        await asyncio.to_thread(self._remove)
        self.spec = replace(self.spec, **changes)
        await self.start()

    async def finished(self, seconds: float = READY_SECONDS) -> tuple[int, str]:
        """(exit code, output) of a box that ends by itself; it is gone then."""
        await asyncio.to_thread(self._start)
        try:
            ended = await asyncio.to_thread(lambda: self._container.wait(timeout=seconds))
            return int(ended["StatusCode"]), self._container.logs().decode(errors="replace")
        finally:
            await asyncio.to_thread(self._remove)
            del self._run.boxes[self.name]

    async def gone(self) -> None:
        """Remove it for good; its volumes go with the run."""
        if self._container is not None:
            await asyncio.to_thread(self._remove)

    async def ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it says so. Raises NotReady."""
        deadline, said = time.monotonic() + seconds, "nothing"
        while True:
            state = await asyncio.to_thread(self._state)
            if state == "exited":
                raise NotReady(f"{self.name} ended while starting:\n{self._tail()}")
            said = await self._health()
            if state == "running" and said == "ready":
                return
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} is not ready after {seconds:g} s ({state}; {said}):\n{self._tail()}")
            await asyncio.sleep(LOOK_SECONDS)

    async def rss_mb(self) -> float:
        """Of its first process; 0 where no Python can look (the programs of Kubernetes)."""
        code, said = await self.run_inside("python3", "-c", RSS)
        return round(int(said) / 1024, 1) if code == 0 else 0.0

    async def run_inside(self, *command: str) -> tuple[int, str]:
        """(exit code, output) of a command in it."""
        ended = await asyncio.to_thread(lambda: self._container.exec_run(list(command)))
        return ended.exit_code, ended.output.decode(errors="replace")

    async def cut(self, network: str) -> None:
        """Take it out of a network."""
        full = self._run.network_of(network).name
        await asyncio.to_thread(lambda: self._run.client.networks.get(full).disconnect(self._container))

    async def join(self, network: str) -> None:
        full = self._run.network_of(network).name
        aliases = [self.name]
        await asyncio.to_thread(lambda: self._run.client.networks.get(full).connect(self._container, aliases=aliases))

    def logs(self) -> bytes:
        """What this container, and those in whose place it is, have said."""
        here = b""
        if self._container is not None:
            with contextlib.suppress(APIError):
                here = self._container.logs(timestamps=True)
        return b"".join([*self.earlier_logs, here])

    # --- the engine ---------------------------------------------------------------------------------------------------
    def _start(self) -> None:
        if self._container is not None:
            self._container.start()
            return
        spec, run = self.spec, self._run
        made = DockerContainer(spec.image).with_name(f"canopy-e2e-{run.id}-{spec.name}").with_envs(**spec.env)
        made = made.with_tmpfs_mount("/tmp", f"size={spec.tmp}")
        if spec.command:
            made = made.with_command(list(spec.command))
        for inside, outside in spec.ports.items():
            made.ports[f"{inside}/tcp"] = ("127.0.0.1", outside)  # with_bind_ports would open it to everybody
        for path, where in spec.mounts.items():
            made = made.with_volume_mapping(str(path), where, "ro")
        for volume, where in spec.volumes.items():
            made = made.with_volume_mapping(run.volume(volume), where, "rw")
        for volume, where in spec.in_memory.items():
            made = made.with_volume_mapping(run.volume(volume, in_memory=True), where, "rw")
        if spec.networks and not spec.inside:
            made = made.with_network(run.network_of(spec.networks[0])).with_network_aliases(spec.name, *spec.aliases)
        self._container = made.with_kwargs(**self._rest()).start().get_wrapped_container()
        for more in spec.networks[1:]:
            run.client.networks.get(run.network_of(more).name).connect(
                self._container, aliases=[spec.name, *spec.aliases]
            )

    def _rest(self) -> dict[str, Any]:
        spec, run = self.spec, self._run
        found: dict[str, Any] = {
            "labels": run.labels,
            "read_only": True,
            "user": spec.user,
            "mem_limit": spec.memory,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
        }
        if spec.entrypoint:
            found["entrypoint"] = list(spec.entrypoint)
        if spec.processes:
            shared = spec.processes == "host"
            found["pid_mode"] = "host" if shared else f"container:{run.boxes[spec.processes].id}"
        if not spec.networks:
            found["network_mode"] = "none"
        if spec.inside:
            found["network_mode"] = f"container:{run.boxes[spec.inside].id}"
        return found

    @property
    def id(self) -> str:
        return str(self._container.id)

    def _remove(self) -> None:
        self.earlier_logs.append(self._container.logs(timestamps=True))
        self._container.remove(force=True)
        self._container = None

    def _state(self) -> str:
        self._container.reload()
        return str(self._container.status)

    async def _health(self) -> str:
        if not self.spec.health:
            return "ready"
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=2, verify=False) as client:
                answer = await client.get(self.spec.health)
        except httpx.TransportError as e:
            return type(e).__name__
        return "ready" if answer.status_code == 200 else answer.text[:300]

    def _tail(self) -> str:
        return self.logs().decode(errors="replace")[-2500:]


def swept(run: str = "") -> list[str]:
    """Remove what a run has made; without a name, what every run has whose process is no more."""
    client, gone = docker.from_env(), list[str]()

    def ours(thing: Any) -> bool:
        labels = thing.attrs.get("Labels") or thing.attrs.get("Config", {}).get("Labels") or {}
        if run:
            return bool(labels.get(LABEL) == run)
        pid, _, born = labels.get(OWNER, "0 ").partition(" ")
        return birth(int(pid)) != born

    only = {"label": LABEL}
    for container in filter(ours, client.containers.list(all=True, filters=only, ignore_removed=True)):
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)
            gone.append(str(container.name))
    for things in (client.networks.list(filters=only), client.volumes.list(filters=only)):
        for thing in filter(ours, things):
            with contextlib.suppress(NotFound):
                thing.remove()
                gone.append(str(thing.name))
    for image in filter(ours, client.images.list(filters=only)):
        client.images.remove(image.id, force=True)
        gone.append(str(image.tags))
    return gone

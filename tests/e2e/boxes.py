"""Containers of one run, by testcontainers: each is made from a Spec, so that it can be killed, started, or made anew.

Everything that a run makes bears its label: `sweeping` removes it, also what a run has left that was killed.
"""

import asyncio
import contextlib
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import httpx
from docker.errors import APIError
from specs import Spec
from sweeping import ENGINE, labels, new_run, swept
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

READY_SECONDS, STOP_SECONDS, LOOK_SECONDS = 180.0, 15, 0.1
IN_MEMORY = "uid=65532,gid=65532,mode=0700,size=1m"

testcontainers_config.ryuk_disabled = True  # its image may not be there to be pulled; `swept` does its work


class NotReady(RuntimeError):
    """A container did not become ready; the text ends with the last lines of its log."""


class Run:
    """One run: its label, its networks and volumes, its boxes by name, and a folder."""

    def __init__(self, directory: Path) -> None:
        self.id, self.directory = new_run(), directory
        self.client = docker.from_env(**ENGINE)
        self.labels = labels(self.id)
        self.boxes: dict[str, Box] = {}
        self._networks: dict[str, Network] = {}

    def network(self, name: str, internal: bool = False) -> None:
        """A network of that name; an internal one leads nowhere else."""
        made = Network(ENGINE, docker_network_kw={"labels": self.labels, "internal": internal, "driver": "bridge"})
        made.name = self._full(name)
        self._networks[name] = made.create()

    def network_of(self, name: str) -> Network:
        return self._networks[name]

    def volume(self, name: str, in_memory: bool = False) -> str:
        """The full name of a volume, made if it is not there."""
        full = self._full(name)
        options = {"type": "tmpfs", "device": "tmpfs", "o": IN_MEMORY} if in_memory else {}
        self.client.volumes.create(full, driver="local", driver_opts=options, labels=self.labels)
        return full

    def forget(self, name: str) -> None:
        """Remove a volume that no container has any more."""
        self.client.volumes.get(self._full(name)).remove()

    def _full(self, name: str) -> str:
        return f"canopy-e2e-{self.id}-{name}"

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
            state = (await asyncio.to_thread(self._inspected))["State"]["Status"]
            if state == "exited":
                raise NotReady(f"{self.name} ended while starting:\n{self._tail()}")
            said = await self._health()
            if state == "running" and said == "ready":
                return
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} is not ready after {seconds:g} s ({state}; {said}):\n{self._tail()}")
            await asyncio.sleep(LOOK_SECONDS)

    async def rss_mb(self) -> float:
        """Of its own first process, whomever else it sees; 0 where the engine's processes cannot be seen from here."""
        status = Path(f"/proc/{(await asyncio.to_thread(self._inspected))['State']['Pid']}/status")
        found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return round(int(found[1]) / 1024, 1) if found else 0.0

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
        made = DockerContainer(spec.image, docker_client_kw=ENGINE).with_envs(**spec.env)
        made = made.with_name(f"canopy-e2e-{run.id}-{spec.name}").with_tmpfs_mount("/tmp", f"size={spec.tmp}")
        if spec.command:
            made = made.with_command(list(spec.command))
        for inside, outside in spec.ports.items():
            made.ports[f"{inside}/tcp"] = ("127.0.0.1", outside)  # with_bind_ports would open it to everybody
        for path, where in spec.mounts.items():
            made = made.with_volume_mapping(str(path), where, "ro")
        for kept, in_memory in ((spec.volumes, False), (spec.in_memory, True)):
            for volume, there in kept.items():
                where, _, mode = there.partition(":")
                made = made.with_volume_mapping(run.volume(volume, in_memory), where, mode or "rw")
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

    def _inspected(self) -> dict[str, Any]:
        self._container.reload()
        found: dict[str, Any] = self._container.attrs
        return found

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

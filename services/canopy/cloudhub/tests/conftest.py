"""Fakes and real servers for CloudHub's tests."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from canopy.bus.bus import Bus
from canopy.bus.environment import Environment
from canopy.bus.streams import LastValues, Value, WrongSequence
from canopy.cloudhub.settings import Settings
from canopy.cloudhub.unit import CloudHub
from canopy.contracts import catalogue as c
from canopy.contracts.wire import (
    DeviceState,
    Hello,
    HelloAnswer,
    Report,
    ReportBatch,
    ReportResults,
    Side,
    StateEntry,
    TwinState,
    encode,
)
from canopy.identity import ids
from canopy.kube.api import Kube
from canopy.runtime.clock import SystemClock
from canopy.runtime.health import Health
from canopy.runtime.settings import Shared
from canopy.runtime.telemetry import Telemetry
from canopy.sync.sets import HashedSet, digest
from canopy.testing import world as worlds
from canopy.testing.domain import TD
from canopy.testing.wait import until


def content(value: str, timestamp: int = 1, state: str = "online") -> bytes:
    """A state with one property, `t`."""
    twins = {"t": TwinState(reported=Side(value=value, timestamp=timestamp), type="int")}
    return encode(DeviceState(twins=twins, state=state, last_online=timestamp))


def report(name: str, value: str, revision: int = 1, uid: str = "u1", **more: Any) -> Report:
    given: dict[str, Any] = {"namespace": "default", "device_revision": 1, "content": msgspec.Raw(content(value))}
    return Report(name=name, uid=uid, revision=revision, **(given | more))


@dataclass
class FakeStream:
    """A stream of last values in memory, with the compare-and-set of the real one. `before_put` may do mischief."""

    messages: dict[str, Value] = field(default_factory=dict)
    seq: int = 0
    before_put: Callable[[str], None] = lambda address: None
    failing: Exception | None = None
    reads: int = 0

    async def get(self, address: str) -> Value | None:
        self._fail()
        self.reads += 1
        return self.messages.get(address)

    async def put(self, address: str, data: bytes, expect: int | None, trace: dict[str, str] | None = None) -> int:
        self._fail()
        self.before_put(address)
        last = self.messages.get(address)
        if expect is not None and expect != (last.seq if last else 0):
            raise WrongSequence(address)
        return self.force(address, data)

    def force(self, address: str, data: bytes) -> int:
        self.seq += 1
        self.messages[address] = Value(address, self.seq, data)
        return self.seq

    async def purge(self, address: str, upto: int) -> None:
        self._fail()
        last = self.messages.get(address)
        if last is not None and last.seq <= upto:
            del self.messages[address]

    async def under(self, wild: str) -> list[Value]:
        self._fail()
        prefix = wild.split("*")[0]
        return [v for a, v in self.messages.items() if a.startswith(prefix)]

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


@pytest.fixture
def make_report() -> Callable[..., Report]:
    return report


@pytest.fixture
def stream() -> FakeStream:
    return FakeStream()


class Edge:
    """A node as CloudHub sees one: EdgeHub's asks, and rows as DeviceTwin keeps them."""

    def __init__(self, bus: Bus, node: str) -> None:
        self.bus, self.node = bus, node
        self.session, self.n, self.seen, self.nonce = 0, 0, 0, ""
        self.pushes: list[Any] = []
        self.report_of = report

    async def hello(self, **more: Any) -> HelloAnswer:
        answer = await self.bus.ask(c.HELLO, Hello(seen=self.seen, **more), timeout=5, node=self.node)
        if answer.verdict == "ok":
            self.session = self.seen = answer.session
            self.n, self.nonce = 0, answer.nonce
        return answer

    def stamped(self, message: Any) -> Any:
        self.n += 1
        return msgspec.structs.replace(message, session=self.session, n=self.n)

    async def ask(self, subject: Any, message: Any, **tokens: str) -> Any:
        return await self.bus.ask(subject, self.stamped(message), timeout=5, node=self.node, **tokens)

    async def report(self, *reports: Report) -> ReportResults:
        answer = await self.ask(c.REPORT, ReportBatch(reports=list(reports)))
        assert isinstance(answer, ReportResults)
        return answer

    @staticmethod
    def entries(*reports: Report) -> HashedSet[StateEntry]:
        return HashedSet(StateEntry(r.namespace, r.name, r.uid, r.revision, digest(bytes(r.content))) for r in reports)

    async def hear(self) -> None:
        async def take(push: Any, place: Any) -> None:
            self.pushes.append((push, place["nonce"]))

        await self.bus.hear(c.PUSH, take)


class World:
    """A real hub, and who connects to it."""

    def __init__(self, fleet: worlds.World) -> None:
        self.fleet, self.hub = fleet, fleet.hub
        self.running: list[asyncio.Task[None]] = []

    async def unit(self, kube: Kube | None = None, **settings: Any) -> CloudHub:
        """A replica of CloudHub, ready."""
        connection = await self.fleet.at_hub("cloudhub")
        env = Environment(Shared(), connection, Telemetry("cloudhub"), Health("cloudhub"))
        given = Settings(**({"api_listen": "127.0.0.1:0"} | settings))
        unit = CloudHub(env, given, SystemClock(), random.Random(1), kube)
        started = asyncio.Event()
        task = asyncio.create_task(unit.run(started.set))
        self.running.append(task)

        async def ready() -> bool:
            if task.done():
                task.result()
            return started.is_set()

        await until(ready)
        return unit

    async def stop(self, number: int = -1) -> None:
        task = self.running.pop(number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def edge(self, node: str) -> Edge:
        connection = await self.fleet.at_hub(ids.node(TD, node))
        return Edge(await self.fleet.opened(connection, "edgehub", node), node)

    async def controller(self) -> Bus:
        return await self.fleet.cloud("devicecontroller")

    async def twins(self) -> LastValues:
        """TWINS, with the rights of CloudHub."""
        return LastValues(await self.fleet.cloud("cloudhub"), "TWINS")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds.open_world(tmp_path) as fleet:
        world = World(fleet)
        try:
            yield world
        finally:
            while world.running:
                await world.stop()

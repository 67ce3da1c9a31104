"""The worker with fakes: nothing is answered, acknowledged or kept that could not be stored."""

import asyncio
import base64
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from canopy.bus import Retry
from canopy.bus.gateway import Incoming
from canopy.contracts import catalogue as c
from canopy.contracts.wire import AsOf, MapperReport, Put
from canopy.devicetwin.batch import Context
from canopy.devicetwin.device import Device
from canopy.devicetwin.handlers import Counts, Handlers
from canopy.devicetwin.repeats import Repeats
from canopy.devicetwin.rows import Rows
from canopy.devicetwin.shelf import Shelf, seal
from canopy.devicetwin.stream import Stream
from canopy.devicetwin.topics import Topics
from canopy.runtime.clock import SystemClock
from canopy.runtime.letters import DeadLetters
from canopy.runtime.metrics import Metrics
from canopy.runtime.telemetry import Telemetry
from canopy.store.migrations import migrations_of
from canopy.store.sqlite import Database
from canopy.sync.ingest import Position, StreamNow
from canopy.testing.wait import until

D1 = ("default", "d1")


class FakeBus:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []
        self.telemetry = Telemetry("devicetwin", enabled=False)

    async def say_all(self, said: Iterable[Any]) -> int:
        self.said += [(address, json.loads(body)) for _, address, body in said]
        return 0

    def results(self) -> list[Any]:
        return [b for a, b in self.said if a.endswith(".result")]


class FakeSource:
    """A stream that delivers what is put, again after each reset, until it is acknowledged."""

    def __init__(self) -> None:
        self.messages: list[Incoming] = []
        self._next, self._woken = 1, asyncio.Event()

    async def open(self, max_bytes: int) -> None: ...

    async def now(self) -> StreamNow:
        return StreamNow("c1", 1, self.messages[-1].seq if self.messages else 0, "r1")

    async def reset(self, start: int) -> None:
        self._next = start

    async def next(self, wait_seconds: float) -> list[Incoming]:
        if not (found := [m for m in self.messages if m.seq >= self._next]):
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._woken.wait()
            except TimeoutError:
                pass
        self._woken.clear()
        found = [m for m in self.messages if m.seq >= self._next]
        self._next = max([self._next, *(m.seq + 1 for m in found)])
        return found

    async def acknowledge(self, last: Incoming) -> None:
        self.messages = [m for m in self.messages if m.seq > last.seq]

    def wake(self) -> None:
        self._woken.set()

    def report(self, seq: int, value: str, twin: str = "t") -> None:
        body = {"event_id": f"e{seq}", "twin": {twin: {"actual": {"value": value}}}}
        address = c.TWIN_UPDATE.at(namespace="default", name="d1")
        self.messages.append(Incoming(address, json.dumps(body).encode(), seq, seq, str(seq)))
        self.wake()


class Broken(Rows):
    """Rows on a disk that is full `times` times."""

    times = 0

    async def write(self, changes: Any, position: Position, as_of: AsOf | None) -> None:
        if self.times:
            self.times -= 1
            raise sqlite3.OperationalError("database or disk is full")
        await super().write(changes, position, as_of)


class Poisoned(Broken):
    """Rows that cannot be written while one of them has a twin called `poison`."""

    tried = 0

    async def write(self, changes: Any, position: Position, as_of: AsOf | None) -> None:
        if any(found and "poison" in found[0].state.twins for found in changes.values()):
            self.tried += 1
            raise ValueError("a bug")
        await super().write(changes, position, as_of)


class Desk:
    def __init__(self, rows: Broken) -> None:
        self.rows, self.bus, self.source = rows, FakeBus(), FakeSource()
        self.shelf = Shelf([seal(Device(*D1, "u1"))[0]])
        counter = Metrics().counter
        names = ("messages", "dropped", "failed")
        counts = Counts(*(counter(f"test_{name}_total", name) for name in names))
        rng = random.Random(1)
        self.letters = DeadLetters("devicetwin")
        self.handlers = Handlers(
            self.bus,  # type: ignore[arg-type]
            Stream(self.source, Position(0, "c1", "r1"), 1, rows.keep),
            rows,
            self.shelf,
            None,
            Context(Topics("node"), lambda: "new", lambda trace, _: trace, 65536),
            SystemClock(),
            counts,
            Repeats(rng),
            self.source.wake,
            200,
            rng,
            self.letters,
        )

    def value(self) -> str | None:
        twin = self.shelf.devices[D1].state.twins.get("t")
        return twin.reported.value if twin and twin.reported else None

    async def ask(self, seq: int, value: str) -> Any:
        report = MapperReport(namespace="default", name="d1", mapper="m", seq=seq, values={"t": value})
        return await self.handlers.reported(report, None)  # type: ignore[arg-type]


@pytest.fixture
async def opened(tmp_path: Any) -> AsyncIterator[Callable[[], Any]]:
    @asynccontextmanager
    async def working() -> AsyncIterator[Desk]:
        async with Database.open(tmp_path / "t.sqlite", migrations_of("canopy.devicetwin")) as database:
            desk = Desk(Broken(database))
            task = asyncio.create_task(desk.handlers.run())
            await desk.handlers.started.wait()
            yield desk
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    yield working


async def test_a_report_is_stored_with_its_position_then_answered_then_acknowledged(opened: Any) -> None:
    async with opened() as desk:
        desk.source.report(1, "1")
        await until(lambda: not desk.source.messages)
        assert [r["event_id"] for r in desk.bus.results()] == ["e1"]
        stored = await desk.rows.load()
        assert stored.position == Position(1, "c1", "r1")
        assert stored.devices[0].state == desk.shelf.devices[D1].state


async def test_what_cannot_be_stored_is_neither_answered_nor_acknowledged_and_is_read_again(opened: Any) -> None:
    async with opened() as desk:
        desk.rows.times = 2
        desk.source.report(1, "1")
        await until(lambda: desk.rows.times < 2)
        assert (desk.bus.said, desk.value()) == ([], None) and desk.source.messages
        await until(lambda: desk.value() == "1")
        assert [r["event_id"] for r in desk.bus.results()] == ["e1"]


async def test_a_mapper_whose_report_cannot_be_stored_is_told_to_try_again(opened: Any) -> None:
    async with opened() as desk:
        desk.rows.times = 1
        with pytest.raises(Retry):
            await desk.ask(1, "1")
        assert (await desk.ask(1, "1")).outcome == "ok"
        assert desk.value() == "1"


async def test_no_mapper_waits_for_a_unit_that_ends(opened: Any) -> None:
    async with opened() as desk:
        desk.rows.times = 1000
        asking = asyncio.create_task(desk.ask(1, "1"))
        await until(lambda: desk.rows.times < 1000)
    with pytest.raises(Retry):
        await asking


async def test_a_set_that_cannot_be_stored_is_not_taken_as_read(opened: Any) -> None:
    async with opened() as desk:
        desk.rows.times = 1
        nothing: list[Put] = []
        assert desk.handlers.read(nothing, AsOf(epoch=1, revisions={"Device": 5}))
        await until(lambda: desk.rows.times == 0)
        assert D1 in desk.shelf.devices and desk.handlers.as_of is None
        desk.handlers.read(nothing, AsOf(epoch=1, revisions={"Device": 5}))
        await until(lambda: D1 not in desk.shelf.devices)
        assert desk.handlers.as_of == AsOf(epoch=1, revisions={"Device": 5})
        assert (await desk.rows.load()).devices == []


@pytest.mark.parametrize("at", [1, 50, 100])
async def test_a_poisoned_message_is_set_aside_and_the_others_of_its_batch_are_stored_and_answered(
    tmp_path: Any, at: int
) -> None:
    async with Database.open(tmp_path / "t.sqlite", migrations_of("canopy.devicetwin")) as database:
        rows = Poisoned(database)
        desk = Desk(rows)
        for seq in range(1, 101):
            desk.source.report(seq, str(seq), "poison" if seq == at else "t")
        task = asyncio.create_task(desk.handlers.run())
        await until(lambda: not desk.source.messages)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        results = desk.bus.results()
        assert [r["event_id"] for r in results] == [f"e{seq}" for seq in range(1, 101)]
        assert [r["event_id"] for r in results if r.get("code") == 500] == [f"e{at}"]
        assert desk.value() == ("99" if at == 100 else "100")
        (letter,) = desk.letters.waiting(10)
        assert (letter.error, letter.source, letter.count) == (
            "ValueError",
            c.TWIN_UPDATE.at(namespace="default", name="d1"),
            1,
        )
        assert b"poison" in base64.b64decode(letter.body) and "in write" in letter.traceback
        assert rows.tried <= 12, "the batch was halved, not tried one by one"
        assert (await rows.load()).position.seq == (99 if at == 100 else 100)

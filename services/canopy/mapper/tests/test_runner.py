"""The engine with a driver and twins that are fakes, on a clock that stands still until it is moved."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import ClassVar

from canopy.contracts.wire import MapperReport, MapperResult
from canopy.mapper.core import State
from canopy.mapper.jobs import Pace, Waits
from canopy.mapper.runner import NotAnswered, Runner
from canopy.mapper.sdk import BadConfig, DeviceUnreachable, DeviceView, Driver, PropertyView, Reading
from canopy.testing.clock import FrozenClock

SWITCH = PropertyView("switch", "boolean")
LEVEL = PropertyView("level", "int", minimum=0, maximum=100)
PACE = Pace(offline=Waits(1.0, 4.0))


class Bench(Driver):
    """Devices in a dict; `away` do not answer, `stuck` do not even fail, and lines are said by `lines`."""

    protocol: ClassVar[str] = "bench"

    def __init__(self) -> None:
        self.values: dict[str, dict[str, bool | int]] = {}
        self.away: set[str] = set()
        self.stuck: dict[str, asyncio.Event] = {}
        self.lines: dict[str, str] = {}
        self.broken: set[str] = set()
        self.opened: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self.busy: Counter[str] = Counter()
        self.most_busy: Counter[str] = Counter()

    def line(self, device: DeviceView) -> str:
        return self.lines.get(device.name, device.name)

    async def open(self, device: DeviceView) -> None:
        if device.name in self.broken:
            raise BadConfig("protocol.configData.ip", "is missing")
        self.opened[device.name] += 1

    async def read(self, device: DeviceView, properties: Sequence[PropertyView]) -> Reading:
        line = self.line(device)
        self.busy[line] += 1
        self.most_busy[line] = max(self.most_busy[line], self.busy[line])
        try:
            self.reads[device.name] += 1
            if device.name in self.stuck:
                await self.stuck[device.name].wait()
            await asyncio.sleep(0)
            if device.name in self.away:
                raise DeviceUnreachable("away")
            values = self.values.setdefault(device.name, {"switch": False, "level": 0})
            return {p.name: values[p.name] for p in properties}
        finally:
            self.busy[line] -= 1

    async def write(self, device: DeviceView, property: PropertyView, value: str) -> None:
        self.values[device.name][property.name] = value == "true" if property is SWITCH else int(value)

    async def close(self, device: DeviceView) -> None:
        self.opened[device.name] -= 1


class Twin:
    """Takes reports as DeviceTwin does, and says what still differs. `deaf` answers nobody."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, str]] = {}
        self.states: dict[str, str] = {}
        self.desired: dict[str, dict[str, str]] = {}
        self.seqs: dict[str, list[int]] = {}
        self.deaf = False

    async def report(self, report: MapperReport) -> MapperResult:
        self.seqs.setdefault(report.name, []).append(report.seq)
        if self.deaf:
            raise NotAnswered
        values = self.values.setdefault(report.name, {})
        values.update(report.values)
        self.states[report.name] = report.state or self.states.get(report.name, "")
        wanted = self.desired.get(report.name, {})
        return MapperResult(outcome="ok", desired={k: v for k, v in wanted.items() if values.get(k) != v})


def view(name: str, uid: str = "u1", digest: str = "d1") -> DeviceView:
    return DeviceView("default", name, "bench", (SWITCH, LEVEL), uid=uid, digest=digest)


class Case:
    def __init__(self) -> None:
        self.clock, self.driver, self.twin = FrozenClock(), Bench(), Twin()
        self.runner = Runner(self.driver, self.twin, self.clock, random.Random(1), "m1", PACE)

    async def until(self, condition: Callable[[], bool], step_seconds: float = 0.1, most_seconds: float = 60) -> None:
        """Move the clock until it is so."""
        passed = 0.0
        while not condition():
            assert passed < most_seconds, "it did not come to pass"
            await self.clock.advance(step_seconds)
            passed += step_seconds


@contextlib.asynccontextmanager
async def case() -> AsyncIterator[Case]:
    made = Case()
    running = asyncio.create_task(made.runner.run())
    try:
        yield made
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert +made.driver.opened == Counter(), "every device is closed at the end"


async def test_a_device_is_opened_read_and_reported() -> None:
    async with case() as c:
        c.runner.set_devices([view("a")])
        await c.until(lambda: c.twin.states.get("a") == "online")
        assert c.twin.values["a"] == {"switch": "false", "level": "0"}
        c.driver.values["a"]["switch"] = True
        await c.until(lambda: c.twin.values["a"]["switch"] == "true", most_seconds=1.2)


async def test_a_desired_value_is_written_without_time_passing() -> None:
    async with case() as c:
        c.runner.set_devices([view("a")])
        await c.until(lambda: c.twin.states.get("a") == "online")
        before = c.clock.monotonic()
        c.runner.desire("default", "a", {"switch": "true"})
        await c.clock.advance(0)
        assert c.clock.monotonic() == before
        assert c.twin.values["a"]["switch"] == "true"


async def test_what_the_twin_wants_of_a_device_that_comes_online_is_written() -> None:
    async with case() as c:
        c.twin.desired["a"] = {"level": "70"}
        c.runner.set_devices([view("a")])
        await c.until(lambda: c.twin.values.get("a", {}).get("level") == "70", most_seconds=2)
        assert c.driver.values["a"]["level"] == 70


async def test_a_device_that_hangs_slows_no_other() -> None:
    async with case() as c:
        c.driver.stuck["dead"] = asyncio.Event()
        c.runner.set_devices([view("dead"), *(view(f"d{n}") for n in range(20))])
        await c.until(lambda: len(c.twin.states) == 20, most_seconds=1.2)
        await c.until(lambda: all(c.driver.reads[f"d{n}"] >= 5 for n in range(20)), most_seconds=5.5)
        c.driver.stuck.pop("dead").set()


async def test_devices_of_one_line_are_served_one_after_another() -> None:
    async with case() as c:
        names = [f"d{n}" for n in range(30)]
        c.driver.lines = dict.fromkeys(names, "bus")
        c.runner.set_devices([view(n) for n in names])
        await c.until(lambda: len(c.twin.states) == 30, most_seconds=3)
        assert c.driver.most_busy == Counter({"bus": 1})


async def test_a_device_that_goes_and_comes_back_is_said_and_its_neighbours_are_tried_at_once() -> None:
    async with case() as c:
        names = ["a", "b", "c"]
        c.driver.lines = dict.fromkeys(names, "bus")
        c.runner.set_devices([view(n) for n in names])
        await c.until(lambda: set(c.twin.states.values()) == {"online"} and len(c.twin.states) == 3)
        c.driver.away.update(names)
        await c.until(lambda: set(c.twin.states.values()) == {"offline"})
        await c.clock.advance(20)
        c.driver.away.clear()
        await c.until(lambda: "online" in c.twin.states.values(), step_seconds=0.01)
        await c.clock.advance(0)
        assert set(c.twin.states.values()) == {"online"}


async def test_reports_that_nobody_answers_are_repeated_with_the_newest_values() -> None:
    async with case() as c:
        c.twin.deaf = True
        c.runner.set_devices([view("a")])
        await c.until(lambda: len(c.twin.seqs.get("a", ())) >= 4)
        c.driver.values["a"]["level"] = 9
        await c.until(lambda: c.driver.reads["a"] > 10)
        c.twin.deaf = False
        await c.until(lambda: c.twin.values.get("a") == {"switch": "false", "level": "9"}, most_seconds=11)
        assert c.twin.seqs["a"] == sorted(set(c.twin.seqs["a"]))


async def test_a_device_that_is_gone_is_closed_and_read_no_more() -> None:
    async with case() as c:
        c.runner.set_devices([view("a"), view("b")])
        await c.until(lambda: len(c.twin.states) == 2)
        c.runner.set_devices([view("b")])
        await c.clock.advance(0.1)
        assert c.driver.opened["a"] == 0 and set(c.runner.states()) == {("default", "b")}
        reads = c.driver.reads["a"]
        await c.clock.advance(5)
        assert c.driver.reads["a"] == reads


async def test_a_device_that_changed_is_closed_and_opened_anew_and_one_that_did_not_is_left_alone() -> None:
    async with case() as c:
        c.runner.set_devices([view("a"), view("b")])
        await c.until(lambda: len(c.twin.states) == 2)
        c.driver.broken.add("b")  # would be seen if it were opened again
        c.runner.set_devices([view("a", digest="d2"), view("b")])
        assert c.runner.states()[("default", "b")] is State.ONLINE
        c.twin.states.clear()
        await c.until(lambda: c.twin.states.get("a") == "online", most_seconds=1.5)
        assert c.driver.opened == Counter({"a": 1, "b": 1})


async def test_a_device_that_changes_while_it_is_read_is_changed_afterwards_and_the_last_change_counts() -> None:
    async with case() as c:
        c.driver.stuck["a"] = asyncio.Event()
        c.runner.set_devices([view("a")])
        await c.until(lambda: c.driver.reads["a"] == 1)
        for digest in ("d2", "d3"):
            c.runner.set_devices([view("a", digest=digest)])
        c.driver.stuck.pop("a").set()
        await c.until(lambda: c.twin.states.get("a") == "online")
        assert c.driver.opened["a"] == 1
        c.runner.set_devices([view("a", digest="d3")])
        await c.clock.advance(0)
        assert c.runner.states()[("default", "a")] is State.ONLINE


async def test_a_bad_configuration_is_said_and_the_corrected_one_works() -> None:
    async with case() as c:
        c.driver.broken.add("a")
        c.runner.set_devices([view("a")])
        await c.until(lambda: c.twin.states.get("a") == "unhealthy")
        c.driver.broken.clear()
        c.runner.set_devices([view("a", digest="d2")])
        await c.until(lambda: c.twin.states.get("a") == "online")


async def test_a_driver_with_a_bug_loses_its_device_for_a_while_and_no_more() -> None:
    async with case() as c:
        c.driver.values["a"] = {}
        c.runner.set_devices([view("a"), view("b")])
        await c.until(lambda: c.twin.states == {"a": "offline", "b": "online"})
        c.driver.values["a"] = {"switch": True, "level": 1}
        await c.until(lambda: c.twin.states["a"] == "online")


async def test_two_thousand_devices_are_served_by_one_runner() -> None:
    async with case() as c:
        c.runner.set_devices([view(f"d{n}") for n in range(2000)])
        await c.until(lambda: len(c.twin.states) == 2000, step_seconds=0.5, most_seconds=2)

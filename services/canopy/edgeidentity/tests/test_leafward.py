"""The shell around the gate: what lies on the disk at each moment, and what is tried again. The leaf is in memory."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from canopy.bus.outcome import AskTimeout
from canopy.edgeidentity.conf import CLOSED
from canopy.edgeidentity.core import Connected, Form, Guest, Invited, Lost
from canopy.edgeidentity.leafward import Leafward, Refused
from canopy.edgeidentity.memory import Memory
from canopy.runtime.health import Health, Metrics
from canopy.testing.clock import FrozenClock
from canopy.testing.wait import until

LIGHT = frozenset({Guest("default", "light", "spiffe://n/device/default/light")})


@dataclass
class World:
    """A leaf that reads `disk`, and DeviceTwin that has its position in `taken`."""

    memory: Memory
    clock: FrozenClock = field(default_factory=FrozenClock)
    health: Health = field(default_factory=lambda: Health("edgeidentity"))
    disk: Form = CLOSED
    read: list[Form] = field(default_factory=list)
    fails: list[Exception] = field(default_factory=list)
    taken: str = ""
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared: the leaf reads, and does not say so yet."""

    def __post_init__(self) -> None:
        self.answers.set()
        counter = Metrics().counter("canopy_edgeidentity_reloads_total")
        config: Any = self
        rng = random.Random(1)
        self.leafward = Leafward(self, self._twin, config, self.memory, self.clock, rng, self.health, counter)

    def write(self, form: Form) -> None:
        self.disk = form

    async def reload(self, run: str) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.read.append(self.disk)
        await self.answers.wait()

    async def read_at(self, run: str) -> str:
        return str(len(self.read))

    async def _twin(self) -> str:
        return self.taken

    async def until(self, condition: Callable[[], Any]) -> None:
        """The clock moves until it is so."""
        async with asyncio.timeout(5):
            while not condition():
                await self.clock.advance(0.05)
                await asyncio.sleep(0.001)

    @property
    def gate(self) -> str:
        return next(check.detail for check in self.health.checks if check.check == "gate")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Memory(tmp_path / "gate.json"))


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in (world.leafward.run(), world.leafward.watch())]
    world.leafward.put(Invited(LIGHT))
    world.leafward.put(Connected("r1"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def opened(world: World) -> None:
    world.taken = world.leafward.state.run
    await world.until(lambda: not world.gate)
    await world.until(lambda: world.disk == CLOSED)


async def test_the_open_form_lies_on_the_disk_only_while_the_leaf_reads_it(world: World) -> None:
    async with running(world):
        await world.until(lambda: world.read)
        assert world.read == [CLOSED] and "DeviceTwin" in world.gate
        await opened(world)
        assert world.read[-1] == Form(LIGHT, 0)


@pytest.mark.parametrize("why", [Refused("nats.conf:3: no"), AskTimeout("no answer"), OSError("the disk is full")])
async def test_what_the_leaf_did_not_read_is_tried_again_and_the_closed_form_is_back_meanwhile(
    world: World, why: Exception
) -> None:
    async with running(world):
        await world.until(lambda: world.read)
        world.fails = [why, why]
        world.taken = "r1"
        await world.until(lambda: len(world.fails) < 2 and world.disk == CLOSED)
        await opened(world)
        assert not world.fails and world.read == [CLOSED, Form(LIGHT, 0)]


async def test_a_restart_of_this_unit_remembers_in_which_run_the_gate_is_open(world: World) -> None:
    async with running(world):
        await world.until(lambda: world.read)
        await opened(world)
    again = World(Memory(world.memory.path))
    async with running(again):
        await again.until(lambda: again.read)
        assert again.read == [Form(LIGHT, 0)]
        again.leafward.put(Lost())
        again.leafward.put(Connected("r2"))
        await again.until(lambda: len(again.read) > 1)
        assert again.read[-1] == CLOSED


async def test_what_somebody_else_let_the_leaf_read_is_read_over(world: World) -> None:
    async with running(world):
        await world.until(lambda: world.read)
        await opened(world)
        await world.reload("r1")  # an operator's SIGHUP
        assert world.read[-1] == CLOSED
        await world.until(lambda: world.read[-1] == Form(LIGHT, 0))


async def test_a_leaf_that_is_slow_to_say_that_it_has_read_was_told_by_nobody_else(world: World) -> None:
    async with running(world):
        await world.until(lambda: world.read)
        world.answers.clear()
        world.taken = "r1"
        await world.until(lambda: len(world.read) == 2)
        state = world.leafward.state
        await world.leafward.look()
        assert world.leafward.state is state
        world.answers.set()
        await opened(world)
        assert world.read == [CLOSED, Form(LIGHT, 0)]


async def test_what_changes_within_a_second_is_one_reload_unless_somebody_is_to_go(world: World) -> None:
    many = [frozenset({*LIGHT, *(Guest("default", f"d{i}", f"spiffe://n/d{i}") for i in range(n))}) for n in range(9)]
    async with running(world):
        await world.until(lambda: world.read)
        await opened(world)
        before = len(world.read)
        for guests in many:
            world.leafward.put(Invited(guests))
            await world.clock.advance(0.05)
        await world.until(lambda: world.leafward.guests == many[-1])
        assert len(world.read) <= before + 2
        world.leafward.put(Invited(LIGHT))
        await until(lambda: world.leafward.guests == LIGHT)  # the clock stands still

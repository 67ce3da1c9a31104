"""Keeps the leaf running with what it should (`core`): the shell around the gate of RULES 29.

The open form of nats.conf is on the disk only while the leaf reads it, so that a leaf that crashes starts closed.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec.structs import replace

from canopy.bus import AskFailed
from canopy.edgeidentity.conf import CLOSED, Config
from canopy.edgeidentity.core import (
    AskTwin,
    Connected,
    Event,
    Form,
    Guests,
    Loaded,
    Lost,
    Reload,
    State,
    Taken,
    after,
    gate,
    step,
    urgent,
)
from canopy.edgeidentity.memory import Memory
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock
from canopy.runtime.health import Health
from canopy.runtime.logs import once_per
from canopy.runtime.metrics import Counter

log = logging.getLogger("canopy.edgeidentity")
LOOK_SECONDS = 5.0
"""Between two looks whether somebody else let the leaf read its configuration."""
PAUSE_SECONDS = 1.0
"""Between two reloads, where the later one can wait: what changes meanwhile goes together."""
ASK_SECONDS = 0.1
"""Between two asks of DeviceTwin while devices wait for it."""
FIRST_SECONDS, MOST_SECONDS = 0.2, 10.0
SAY_AGAIN_SECONDS = 60.0
SETTLED_SECONDS, SETTLED_LOOK_SECONDS = 5.0, 0.02


class Refused(Exception):
    """The leaf did not take its configuration; the text is its own."""


class Server(Protocol):
    """The leaf, by its system account."""

    async def reload(self, run: str) -> None:
        """Let it read its configuration again, if it is still that run. Raises Refused, AskFailed."""

    async def read_at(self, run: str) -> str:
        """When it read its configuration last, whoever let it. Raises AskFailed."""


class Leafward:
    """Owns the state of `core`. `put` tells it what happens, `run` does what follows."""

    def __init__(
        self,
        server: Server,
        twin: Callable[[], Awaitable[str]],
        config: Config,
        memory: Memory,
        clock: Clock,
        rng: random.Random,
        health: Health,
        reloads: Counter,
    ) -> None:
        """`twin` asks DeviceTwin for the run in which it has its position ("": in none)."""
        self._server, self._twin, self._config, self._memory = server, twin, config, memory
        self._clock, self._health, self._reloads = clock, health, reloads
        self._backoff = Backoff(FIRST_SECONDS, MOST_SECONDS, rng)
        self._say = once_per(SAY_AGAIN_SECONDS)
        self._woken, self._read_at = asyncio.Event(), ""
        self._reloaded, self._reading = -math.inf, False
        self.state = State(taken=memory.held.run)

    def put(self, event: Event) -> None:
        """Something happened."""
        self.state = after(self.state, event)
        if isinstance(event, Connected | Lost):
            self._backoff.reset()
        self._woken.set()
        why = gate(self.state)
        self._health.set("gate", not why, why)

    @property
    def guests(self) -> Guests:
        """Whom the leaf lets in now, besides units."""
        loaded = self.state.loaded
        return loaded.guests or frozenset() if loaded is not None else frozenset()

    async def settled(self, seconds: float = SETTLED_SECONDS) -> bool:
        """Whether the leaf runs with what it should, within so long; at once False while it is away."""
        until = self._clock.monotonic() + seconds
        while self.state.run and self.state.loaded != self.state.wanted and self._clock.monotonic() < until:
            await self._clock.sleep(SETTLED_LOOK_SECONDS)
        return bool(self.state.run) and self.state.loaded == self.state.wanted

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            match step(self.state):
                case Reload() if not urgent(self.state) and (early := self._early()) > 0:
                    await self._clock.wait(self._woken, early)
                case Reload(run, form):
                    await self._reload(run, form)
                case AskTwin(run):
                    await self._ask(run)
                case _:
                    await self._clock.wait(self._woken, math.inf)

    async def watch(self) -> None:
        """A SIGHUP of somebody else reads what lies on the disk: the closed form. The open one is given again."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        before = self.state
        if before.loaded is None or self._reading:
            return
        try:
            at = await self._server.read_at(before.run)
        except AskFailed:
            return
        if self.state is before and not self._reading and at != self._read_at:
            log.warning("the leaf was told by somebody else to read its configuration; it is told again")
            self.put(Connected(before.run))

    def _early(self) -> float:
        """Seconds until the next reload that can wait."""
        return self._reloaded + PAUSE_SECONDS - self._clock.monotonic()

    async def _ask(self, run: str) -> None:
        taken = await self._twin()
        if taken == run:
            self.put(Taken(run))
        else:
            await self._clock.wait(self._woken, ASK_SECONDS)

    async def _reload(self, run: str, form: Form) -> None:
        try:
            await self._read(run, form)
        except (Refused, AskFailed, OSError) as e:
            self._reloads.add(result="failed")
            if self._say(str(e)):
                log.warning("the leaf does not read its configuration: %s; trying on", e)
            await self._clock.wait(self._woken, self._backoff.next_seconds())
            return
        self._reloads.add(result="ok")
        self._backoff.reset()
        self._reloaded = self._clock.monotonic()
        self._told(self.state.loaded, form)
        self.put(Loaded(run, form))
        if not form.gated:
            self._memory.write(replace(self._memory.held, run=run))

    async def _read(self, run: str, form: Form) -> None:
        """Write, reload, and put the closed form back, whatever happened."""
        self._reading = True
        try:
            await asyncio.to_thread(self._config.write, form)
            await self._server.reload(run)
            self._read_at = await self._server.read_at(run)
        finally:
            self._reading = False
            if not form.gated:
                await asyncio.shield(asyncio.to_thread(self._config.write, CLOSED))

    def _told(self, was: Form | None, form: Form) -> None:
        if form.guests is not None and (was is None or was.gated):
            log.info("devices are let in", extra={"devices": len(form.guests)})

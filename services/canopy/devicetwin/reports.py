"""The sync upward: states that the cloud has not acknowledged, and the page by which it proves that all is equal.

One thing is outstanding at a time. What is sent is what is held at that moment, so a newer value takes the place of an
older one. Nothing depends on being told: a failed send is repeated with backoff, and at once when the link is back.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable

import msgspec

from canopy.bus import AskFailed, Bus, Place
from canopy.contracts import catalogue as c
from canopy.contracts.wire import (
    LinkState,
    Nothing,
    Report,
    ReportBatch,
    ReportResult,
    ReportResults,
    StatePageAnswer,
    StatePageAsk,
    Verdict,
    encode,
)
from canopy.devicetwin.device import Device
from canopy.devicetwin.events import Acknowledged, Event, Resend
from canopy.devicetwin.shelf import Shelf
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock
from canopy.runtime.equal import Equal
from canopy.runtime.metrics import Metrics
from canopy.runtime.telemetry import Spanning, joined
from canopy.sync.down import PAGE_ENTRIES
from canopy.sync.up import acknowledges

log = logging.getLogger("canopy.devicetwin")

MOST_REPORTS = 500
MOST_BATCH_BYTES = 220 * 1024
FIRST_SECONDS, MOST_SECONDS = 0.2, 3.0
"""Between tries that the cloud does not take: so late, at most, does a state arrive after a hub that stored nothing is
well again. A busy cloud says longer times itself."""
MOST_BUSY_SECONDS = 10.0
LOOK_SECONDS = 30.0
TRACED_FAILURES = 3
_AROUND_BYTES = 700  # names, uid and trace of a report, encoded


def cut(devices: Iterable[Device], most: int = MOST_REPORTS, most_bytes: int = MOST_BATCH_BYTES) -> list[Report]:
    """As many reports as one message holds; at least one."""
    found: list[Report] = []
    size = 0
    for device in devices:
        content = encode(device.state)
        size += len(content) + _AROUND_BYTES
        if found and (len(found) >= most or size > most_bytes):
            break
        found.append(_report(device, content))
    return found


def _report(device: Device, content: bytes) -> Report:
    return Report(
        namespace=device.namespace,
        name=device.name,
        uid=device.uid,
        device_revision=device.device_revision,
        revision=device.revision,
        content=msgspec.Raw(content),
        trace=device.trace,
    )


class NotTaken(Exception):
    """The cloud said something else than ok; it may be asked again after `seconds`."""

    def __init__(self, answer: Verdict) -> None:
        super().__init__(f"{answer.verdict} {answer.reason}".strip())
        self.seconds = answer.retry_after_seconds


class Reports:
    """`run` is the sender; `wake` after every change; `link` and `wanted` are what EdgeHub says."""

    def __init__(
        self,
        bus: Bus,
        shelf: Shelf,
        put: Callable[[Event], bool],
        clock: Clock,
        rng: random.Random,
        ask_seconds: float,
        pause_seconds: float,
        equal: Equal | None = None,
    ) -> None:
        self._equal = equal or Equal("devicetwin", Metrics(), clock)
        self._bus, self._shelf, self._put, self._clock = bus, shelf, put, clock
        self._ask_seconds, self._pause_seconds = ask_seconds, pause_seconds
        self._woken, self._came_back = asyncio.Event(), asyncio.Event()
        self._backoff = Backoff(FIRST_SECONDS, MOST_SECONDS, rng)
        self._page = False
        self._session, self._most = 0, MOST_REPORTS
        self._up = False
        self._told_down = False
        self._failures = 0
        self._down_said = False

    def wake(self) -> None:
        self._woken.set()

    async def link(self, state: LinkState, place: Place[LinkState]) -> None:
        """A link that comes up is used at once; a new session begins with a page."""
        came_up, self._up = state.up and not self._up, state.up
        self._most = max(1, min(MOST_REPORTS, state.reports_per_batch))
        self._told_down = not state.up
        if state.up and state.session != self._session:
            self._session, self._page, came_up = state.session, True, True
            self._equal.began()
        elif not state.up:
            self._equal.gone()
        if came_up:
            self._backoff.reset()
            self._failures = 0
            self._woken.set()
            self._came_back.set()

    async def wanted(self, message: Nothing, place: Place[Nothing]) -> None:
        """The cloud's hash is another one: it wants our page. Other channels are not ours."""
        if place["channel"] == c.UP_CHANNEL:
            self._page = True
            self._woken.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            try:
                busy = await self._step()
            except (AskFailed, NotTaken, msgspec.DecodeError, OSError) as e:
                await self._failed(e)
                continue
            self._backoff.reset()
            self._failures = 0
            self._down_said = False
            if busy:
                await self._clock.sleep(self._pause_seconds)
            else:
                self._equal.reached()
                await self._clock.wait(self._woken, LOOK_SECONDS)

    async def _failed(self, why: Exception) -> None:
        self._failures += 1
        if not self._down_said:
            log.info("states wait: %s", why)
            self._down_said = True
        seconds = max(self._backoff.next_seconds(), min(getattr(why, "seconds", 0.0), MOST_BUSY_SECONDS))
        # not woken by changes: thousands may come a second while nobody takes them
        await self._clock.wait(self._came_back, seconds)

    async def _step(self) -> bool:
        """One thing that is to be sent; False if there is nothing."""
        if self._page:
            self._page = False
            try:
                await self._send_page()
            except BaseException:
                self._page = True
                raise
            return True
        reports = cut(self._shelf.unreported(), self._most)
        if not reports:
            return False
        await self._send(reports)
        return True

    async def _send(self, reports: list[Report]) -> None:
        sent = {(r.namespace, r.name): self._shelf.devices[(r.namespace, r.name)].entry for r in reports}
        with self._traced(reports):
            answer = await self._bus.ask(c.HUB_REPORT, ReportBatch(reports=reports), timeout=self._ask_seconds)
        self._check(answer)
        good = tuple(e for r in answer.results if (e := sent.get((r.namespace, r.name))) and acknowledges(e, r))
        if good:
            await self._acknowledge(good)
        for result in answer.results:
            self._refused(result)
        if not good:
            raise NotTaken(_slowly(answer))

    def _traced(self, reports: list[Report]) -> Spanning:
        """In the newest traces of the batch; what the link and the cloud do with it is told in the last of them.

        While nobody takes the batch only the first tries are told of: a long outage would fill the traces.
        """
        told = not self._told_down and self._failures < TRACED_FAILURES
        traces = joined(*(r.trace for r in reports if r.trace)) if told else ""
        return self._bus.telemetry.span_in_each("send states", traces, "producer", {"states": len(reports)})

    async def _acknowledge(self, entries: tuple[object, ...]) -> None:
        """Hand it to the worker, and go on when it is stored: else the same states would be sent again.

        Not woken by a change: where every row has changed since it was sent, there is none."""
        stored = asyncio.Event()
        if self._put(Acknowledged(entries, stored.set)):  # type: ignore[arg-type]
            await self._clock.wait(stored, self._ask_seconds)

    def _refused(self, result: ReportResult) -> None:
        key = (result.namespace, result.name)
        device = self._shelf.devices.get(key)
        if result.outcome != "refused" or device is None or device.revision != result.revision:
            return
        self._shelf.refuse(device.entry)
        log.warning("the cloud does not take the state of %s/%s: %s", *key, result.reason)

    async def _send_page(self) -> None:
        """All entries of the reported set, page by page; what the cloud lacks is sent again (RULES 23)."""
        start: tuple[str, ...] | None = None
        while True:
            entries, end = self._shelf.reported.span(start, most=PAGE_ENTRIES)
            ask = StatePageAsk(start=start, end=end, entries=entries)  # type: ignore[arg-type]
            answer: StatePageAnswer = await self._bus.ask(c.HUB_STATE_PAGE, ask, timeout=self._ask_seconds)
            self._check(answer)
            if answer.resend:
                self._put(Resend(tuple(answer.resend)))
            if end is None:
                return
            start = end

    @staticmethod
    def _check(answer: Verdict) -> None:
        if answer.verdict != "ok":
            raise NotTaken(answer)


def _slowly(answer: ReportResults) -> Verdict:
    """Nothing of a batch was stored: what it says, without a hurry."""
    said = next((f"{r.outcome} {r.reason}".strip() for r in answer.results if r.outcome != "ok"), "no result")
    return Verdict(verdict="retry", reason=said)

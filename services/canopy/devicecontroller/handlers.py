"""The shell: answers pages from what this replica has seen, pushes, and writes DeviceStatus and conditions.

`Pages` runs in every replica; `Pusher`, `StatusWriter` and `ConditionWriter` only while it leads (`lead.py`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from canopy.bus import AskFailed, Place, Retry
from canopy.bus.bus import TooBig
from canopy.bus.jsapi import StreamError
from canopy.bus.streams import Value
from canopy.contracts import catalogue
from canopy.contracts.devices import DEVICE
from canopy.contracts.subject import BadToken, Subject
from canopy.contracts.times import rfc3339
from canopy.contracts.wire import Key, PageAnswer, Push, SetAsk, TwinRecord
from canopy.devicecontroller import conditions, core
from canopy.devicecontroller.core import DeviceKey, LookAgain, Nothing, Purge, Record, Step, Write
from canopy.devicecontroller.counts import Counts
from canopy.devicecontroller.objects import Seen
from canopy.devicecontroller.placement import Touched
from canopy.devicecontroller.pushes import Pending, pushes
from canopy.devicecontroller.replica import Replica
from canopy.kube.api import Kube
from canopy.kube.errors import Conflict, KubeError, NotFound, Unavailable
from canopy.kube.resource import DEVICES, EVENTS
from canopy.runtime.clock import Clock
from canopy.runtime.telemetry import Spanning, Telemetry, joined
from canopy.runtime.worker import Failures, Worked
from canopy.sync.down import Wanted

log = logging.getLogger("canopy.devicecontroller")
NOT_YET_SECONDS = 1.0
AWAY = (Unavailable, AskFailed, StreamError)
"""What fails for every device alike, until Kubernetes or the hub is back."""
_TWIN = msgspec.json.Decoder(TwinRecord)
_HAS_TRACE = b'"trace":'


class _Traced(msgspec.Struct):
    trace: str = ""


_TRACE = msgspec.json.Decoder(_Traced)


class Pages:
    """Answers what CloudHub asks for a node."""

    def __init__(self, replica: Replica, counts: Counts) -> None:
        self._replica, self._counts = replica, counts

    async def answer(self, ask: SetAsk, place: Place[SetAsk]) -> PageAnswer:
        """Raises Retry until this replica has seen everything once."""
        replica, as_of = self._replica, self._replica.as_of
        if as_of is None:
            raise Retry("this replica has not yet read everything from Kubernetes", NOT_YET_SECONDS)
        self._counts.pages.add()
        wanted = Wanted.over(replica.placement.set_of(ask.node), replica.placement.load)
        return wanted.answer(ask.ask, as_of, replica.cluster)


class Says(Protocol):
    """The part of Bus that pushes need."""

    async def say(self, subject: Subject[Any, Any], message: Any, **tokens: str) -> None: ...


class Pusher:
    """Says each node's changes: the first after quiet at once, then what gathers in `delay_seconds`."""

    def __init__(
        self,
        bus: Says,
        replica: Replica,
        clock: Clock,
        delay_seconds: float,
        counts: Counts,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._bus, self._replica, self._clock = bus, replica, clock
        self._telemetry = telemetry or Telemetry("devicecontroller", enabled=False)
        self._delay, self._counts = delay_seconds, counts
        self._pending, self._wake = Pending(), asyncio.Event()

    def add(self, touched: Iterable[Touched]) -> None:
        self._pending.add(touched)
        if self._pending:
            self._wake.set()

    async def run(self) -> None:
        """A new leader begins with a word to each node that should have anything: what changed while nobody led would
        else wait for the node's own timer."""
        for node in list(self._replica.placement.nodes()):
            await self._push(node, pushes_of(self._replica, node, ()))
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                node, keys = self._pending.take()
                with self._traced(keys):
                    await self._push(node, pushes_of(self._replica, node, keys))
            await self._clock.sleep(self._delay)

    def _traced(self, keys: Iterable[Key]) -> Spanning:
        """In the trace of the change; where several gathered, of the first that has one."""
        devices = (self._replica.placement.devices.get(key[1:]) for key in sorted(keys) if key[0] == DEVICE)
        first = next((d for d in devices if d is not None and d.trace), None)
        context = self._telemetry.remote(first.trace) if first else None
        about = {"device": "/".join(first.id)} if first else None
        return self._telemetry.span("push the change", context, kind="producer", attributes=about, begins=False)

    async def _push(self, node: str, messages: list[Push]) -> None:
        for message in messages:
            try:
                await self._bus.say(catalogue.SET_PUSH, message, channel=catalogue.DEVICES_CHANNEL, node=node)
                self._counts.pushes.add()
            except (BadToken, TooBig) as error:
                log.warning("no push to %s: %s", node, error)
        await asyncio.sleep(0)


def pushes_of(replica: Replica, node: str, keys: Iterable[tuple[str, str, str]]) -> list[Push]:
    """What brings `node` up to date; nothing while this replica has not seen everything."""
    as_of = replica.as_of
    return [] if as_of is None else pushes(replica.placement, node, keys, as_of, replica.cluster)


class Twins(Protocol):
    """The stream TWINS, as far as it is needed here."""

    async def get(self, address: str) -> Value | None: ...

    async def purge(self, address: str, upto: int) -> None: ...


class StatusWriter:
    """Looks at one device: reads in the order of RULES 24, decides, carries it out."""

    def __init__(
        self,
        replica: Replica,
        twins: Twins,
        store: Callable[[Write], Awaitable[None]],
        leads: Callable[[], bool],
        counts: Counts,
    ) -> None:
        self._replica, self._twins, self._store = replica, twins, store
        self._leads, self._counts = leads, counts
        self._failures = Failures(counts.failures, AWAY)
        self._traces: dict[DeviceKey, str] = {}

    def note(self, key: DeviceKey, data: bytes) -> None:
        """A record came: one that is overwritten before it is written down has its trace go on with the next."""
        try:
            trace = _TRACE.decode(data).trace if _HAS_TRACE in data else ""
        except msgspec.DecodeError:  # `look` says so
            return
        if trace:
            self._traces[key] = joined(self._traces.get(key, ""), trace)

    async def look(self, key: DeviceKey) -> Worked:
        try:
            return await self._carry_out(key, await self._judge(key))
        except Conflict:
            self._counts.conflicts.add()
        except (KubeError, AskFailed, StreamError, msgspec.DecodeError) as error:
            return self._failures.worked(f"status of {key[1]}/{key[2]}", error)
        return Worked(again=True)

    async def _judge(self, key: DeviceKey) -> Step:
        """The DeviceStatus and its resourceVersion first, TWINS second: a write between them makes the patch fail."""
        name, replica = key[1:], self._replica
        if not replica.complete:
            return LookAgain("not everything was read yet")
        status = replica.statuses.get(name)
        value = await self._twins.get(address(key))
        device = replica.placement.devices.get(name)
        return core.decide(key, device, replica.seen_devices, status, record(value))

    async def _carry_out(self, key: DeviceKey, step: Step) -> Worked:
        match step:
            case Nothing():
                self._traces.pop(key, None)
                return Worked()
            case LookAgain(why):
                log.debug("status of %s/%s: %s", key[1], key[2], why)
                return Worked(again=True)
            case Purge(upto):
                self._traces.pop(key, None)
                await self._purge(key, upto)
                return Worked()
            case Write():
                return await self._write(key, step)

    async def _write(self, key: DeviceKey, write: Write) -> Worked:
        if not self._leads():
            return Worked()
        came = self._traces.get(key, "")
        await self._store(replace(write, trace=joined(came, write.trace)))
        if self._traces.get(key) == came:
            self._traces.pop(key, None)
        self._counts.writes.add(what="status")
        return Worked(wrote=True)

    async def _purge(self, key: DeviceKey, upto: int) -> None:
        if self._leads():
            await self._twins.purge(address(key), upto)
            self._counts.purges.add()


def address(key: DeviceKey) -> str:
    """The subject of TWINS of a device."""
    return catalogue.TWINS.at(node=key[0], namespace=key[1], name=key[2])


def key_of(subject: str) -> DeviceKey | None:
    """The device of a subject of TWINS."""
    tokens = catalogue.TWINS.tokens(subject)
    return (tokens["node"], tokens["namespace"], tokens["name"]) if tokens else None


def record(value: Value | None) -> Record | None:
    return Record(value.seq, _TWIN.decode(value.data)) if value else None


class ConditionWriter:
    """Says in a Device's status whether it can get to its node, and in an Event when it cannot."""

    def __init__(
        self, replica: Replica, kube: Kube, clock: Clock, leads: Callable[[], bool], instance: str, counts: Counts
    ) -> None:
        self._replica, self._kube, self._clock = replica, kube, clock
        self._leads, self._instance, self._counts = leads, instance, counts
        self._failures = Failures(counts.failures, AWAY)

    async def look(self, name: tuple[str, str]) -> Worked:
        replica = self._replica
        device = replica.placement.devices.get(name)
        if not replica.complete or device is None or not self._leads():
            return Worked(again=not replica.complete)
        verdict = conditions.judge(device, replica.model_of(device), device.node in replica.nodes)
        wanted = conditions.conditions_of(device, verdict, self._now())
        if wanted is None:
            return Worked()
        return await self._write(device, verdict, conditions.patch(device, wanted))

    async def _write(self, device: Seen, verdict: conditions.Verdict, patch: bytes) -> Worked:
        try:
            await self._kube.patch(DEVICES, device.namespace, device.name, patch, subresource="status")
            self._counts.writes.add(what="condition")
            if conditions.turned(device, verdict):
                await self.warn(device, verdict)
        except (Conflict, NotFound):
            self._counts.conflicts.add()
            return Worked(again=True)
        except KubeError as error:
            return self._failures.worked(f"condition of {device.namespace}/{device.name}", error)
        return Worked(wrote=True)

    async def warn(self, seen: Seen, verdict: conditions.Verdict) -> None:
        """Say it in an Event; a lost one is not worth a second try."""
        body = conditions.event(seen, verdict.reason, verdict.message, self._now(), self._instance)
        try:
            await self._kube.create(EVENTS, seen.namespace, body)
            self._counts.writes.add(what="event")
        except KubeError as error:
            log.info("event on %s/%s: %s", seen.namespace, seen.name, error)

    def _now(self) -> str:
        return rfc3339(self._clock.now_ms())

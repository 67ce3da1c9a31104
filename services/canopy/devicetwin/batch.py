"""One batch: what a number of events does to the devices, and what is to be said about it, in order. Pure.

`handlers` makes a Batch, gives it every event, commits what `changes` says, and only then says what `said` holds.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from canopy.contracts import catalogue as c
from canopy.contracts.subject import AnySubject
from canopy.contracts.wire import AsOf, Delta, MapperReport, MapperResult, Name, encode
from canopy.devicetwin import core, payloads
from canopy.devicetwin.core import Asked, Kind, Refused, TwinAsked
from canopy.devicetwin.desired import Facts, adopt
from canopy.devicetwin.device import Device
from canopy.devicetwin.events import Acknowledged, Bug, Event, Repeat, Reported, Resend, SetRead, Spoken
from canopy.devicetwin.shelf import seal
from canopy.devicetwin.topics import Said, Topics
from canopy.runtime.telemetry import joined, newest

log = logging.getLogger("canopy.devicetwin")
SET_ASIDE = Refused(500, "internal error: the message was set aside; see canopy deadletters")


class Context(NamedTuple):
    """What a batch needs and never changes. `trace` turns the traceparent that came (or "") into the one to keep with
    the change of a device."""

    topics: Topics
    new_id: Callable[[], str]
    trace: Callable[[str, Name], str]
    most_value_bytes: int


class Batch:
    """`held` are the devices before; `now` is the receive time in ms."""

    def __init__(self, held: Mapping[Name, Device], now: int, context: Context) -> None:
        self._held, self._now, self._context = held, now, context
        self._new: dict[Name, Device | None] = {}
        self._undo: dict[Name, tuple[Device | None] | None] = {}
        self._mappers: dict[Name, None] = {}
        self.said: list[Said] = []
        self.answers: list[tuple[Callable[[MapperResult | None], None], MapperResult]] = []
        self.then: list[Callable[[], None]] = []
        self.refused_desired: dict[tuple[Name, str, str], str] = {}
        self.as_of: AsOf | None = None
        self.bugs: list[Bug] = []
        self._asked = False

    def take(self, event: Event) -> None:
        """Apply one event. One that shows a bug of ours changes nothing, and stands in `bugs`."""
        bug = self._attempt(_HANDLERS[type(event)], event)
        if bug is not None:
            self.set_aside(event, bug)

    def set_aside(self, event: Event, bug: Exception) -> None:
        """In place of `take`: only tell whoever waits that it cannot be applied."""
        match event:
            case Spoken():
                self.bugs.append(Bug(event.address, bug, event.data, event.trace))
                self._attempt(Batch._excuse, event)
            case Reported(report=report):
                self.bugs.append(Bug(f"report of {report.namespace}/{report.name}", bug, encode(report), event.trace))
                self.answers.append((event.answer, MapperResult(outcome="refused", reason=SET_ASIDE.reason)))
            case _:
                self.bugs.append(Bug(type(event).__name__, bug))

    def _excuse(self, event: Spoken) -> None:
        place = self._context.topics.place(event.address)
        if place is not None:
            event_id = payloads.read(payloads.GET, event.data or b"{}").event_id
            self._refuse(_ANSWER_TOPICS[place.topic.pattern], place.name, event_id, SET_ASIDE)

    def _attempt(self, step: Callable[..., None], *arguments: Any) -> Exception | None:
        """All of the step or nothing of it."""
        self._undo.clear()
        said, answers = len(self.said), len(self.answers)
        try:
            step(self, *arguments)
        except Exception as bug:
            del self.said[said:], self.answers[answers:]
            for name, before in self._undo.items():
                if before is None:
                    del self._new[name]
                else:
                    self._new[name] = before[0]
            return bug
        return None

    def _put(self, name: Name, device: Device | None) -> None:
        if name not in self._undo:
            self._undo[name] = (self._new[name],) if name in self._new else None
        self._new[name] = device

    def changes(self) -> dict[Name, tuple[Device, bytes] | None]:
        """What is to be stored: devices that differ from before, sealed."""
        return {
            name: seal(new) if new is not None else None
            for name, new in self._new.items()
            if new is not self._held.get(name)
        }

    def finish(self) -> None:
        """Tell mappers what differs, once a device."""
        for name in self._mappers:
            device = self._device(name)
            wanted = core.differing(device.state) if device else {}
            if device is not None and wanted:
                body = encode(Delta(namespace=name[0], name=name[1], desired=wanted, trace=newest(device.trace)))
                self._say(c.TWIN_DELTA, name, body)

    def _device(self, name: Name) -> Device | None:
        return self._new[name] if name in self._new else self._held.get(name)

    def _say(self, topic: AnySubject, name: Name, *bodies: bytes) -> None:
        address = self._context.topics.address(topic, name)
        self.said.extend(Said(topic, address, body) for body in bodies)

    def _say_node(self, topic: AnySubject, *bodies: bytes) -> None:
        address = self._context.topics.node_address(topic)
        self.said.extend(Said(topic, address, body) for body in bodies)

    def _say_delta(self, device: Device) -> None:
        if core.differing(device.state):  # seldom: an id costs more than this look
            self._say(c.MQTT_DELTA, device.key, *payloads.delta(self._context.new_id(), self._now, device))
            self._mappers.setdefault(device.key)

    def _traced(self, before: Device, after: Device, trace: str, told: bool = True) -> Device:
        """A changed state bears the trace of its change, and those of the changes before that have not gone up yet.

        `told` False: nobody asked for this trace, it is one of the few a second: none is begun while another waits.
        """
        if after.revision == before.revision:
            return after
        waiting = "" if before.acknowledged else before.trace
        kept = self._kept(after.key, waiting, trace, told and bool(trace))
        return after if kept == after.trace else replace(after, trace=kept)

    def _kept(self, name: Name, waiting: str, trace: str, told: bool) -> str:
        if waiting and not told:
            return waiting
        if not trace and self._asked:  # at most one new trace a batch: asking costs more than most updates do
            return ""
        self._asked = self._asked or not trace
        return joined(waiting, self._context.trace(trace, name))

    # --- what devices and applications say ----------------------------------------------------------------------------
    def _spoken(self, event: Spoken) -> None:
        place = self._context.topics.place(event.address)
        if place is None:
            return
        topic, answer_topic = place.topic, _ANSWER_TOPICS[place.topic.pattern]
        try:
            _TOPICS[topic.pattern](self, place.name, event)
        except payloads.Malformed as bad:
            self._refuse(answer_topic, place.name, bad.event_id, bad.refused)

    def _refuse(self, topic: AnySubject, name: Name, event_id: str, refused: Refused) -> None:
        body = payloads.refusal(event_id, self._now, refused)
        if topic is c.MEMBERSHIP_RESULT:
            self._say_node(topic, body)
        else:
            self._say(topic, name, body)

    def _update(self, name: Name, event: Spoken) -> None:
        said = payloads.read(payloads.UPDATE, event.data)
        if not said.twin:
            raise payloads.Malformed(said.event_id, f"twin is empty: give {payloads.EXAMPLE}")
        before = self._device(name)
        if before is None:
            return self._refuse(c.TWIN_UPDATE_RESULT, name, said.event_id, Refused(404, core.NO_DEVICE))
        done = core.update(before, said.twin, self._now, self._context.most_value_bytes)
        if isinstance(done, Refused):
            return self._refuse(c.TWIN_UPDATE_RESULT, name, said.event_id, done)
        after = self._traced(before, done.device, said.traceparent or event.trace)
        self._put(name, after)
        self._say(c.TWIN_UPDATE_RESULT, name, *payloads.result(said.event_id, self._now, after, said.twin, done.keys))
        if done.keys:
            self._say(c.TWIN_DOCUMENT, name, *payloads.document(said.event_id, self._now, before, after, done.keys))
        self._say_delta(after)

    def _state(self, name: Name, event: Spoken) -> None:
        said = payloads.read(payloads.STATE, event.data)
        before = self._device(name)
        if before is None:
            return self._refuse(c.STATE_UPDATE_RESULT, name, said.event_id, Refused(404, core.NO_DEVICE))
        after = core.say_state(before, said.state, self._now)
        if isinstance(after, Refused):
            return self._refuse(c.STATE_UPDATE_RESULT, name, said.event_id, after)
        after = self._traced(before, after, said.traceparent or event.trace)
        self._put(name, after)
        self._say(c.STATE_UPDATE_RESULT, name, payloads.state(self._context.new_id(), self._now, after))
        if after.state.state == "online":
            self._say_delta(after)

    def _get(self, name: Name, event: Spoken) -> None:
        said = payloads.read(payloads.GET, event.data or b"{}")
        device = self._device(name)
        if device is None:
            return self._refuse(c.TWIN_GET_RESULT, name, said.event_id, Refused(404, core.NO_DEVICE))
        self._say(c.TWIN_GET_RESULT, name, *payloads.twin(said.event_id, self._now, device))

    def _members(self, name: Name, event: Spoken) -> None:
        said = payloads.read(payloads.GET, event.data or b"{}")
        devices = (self._device(n) for n in sorted(self._held.keys() | self._new.keys()))
        self._say_node(
            c.MEMBERSHIP_RESULT, *payloads.members(said.event_id, self._now, (d for d in devices if d is not None))
        )

    # --- what mappers say ---------------------------------------------------------------------------------------------
    def _reported(self, event: Reported) -> None:
        self.answers.append((event.answer, self._mapper_result(event)))

    def _mapper_result(self, event: Reported) -> MapperResult:
        report, name = event.report, (event.report.namespace, event.report.name)
        before = self._device(name)
        if before is None:
            return MapperResult(outcome="refused", reason=core.NO_DEVICE)
        local = before.local
        if local.mapper == report.mapper and report.seq <= local.seq:
            outcome = "ok" if report.seq == local.seq else "older"
            return MapperResult(outcome=outcome, desired=core.differing(before.state))
        after = self._by_mapper(before, report)
        if isinstance(after, Refused):
            return MapperResult(outcome="refused", reason=after.reason, desired=core.differing(before.state))
        after = self._traced(before, after, event.trace or report.trace, bool(report.trace))
        if after is not before:  # a repeat of equal values changes nothing: its number need not be stored
            after = replace(after, local=replace(after.local, mapper=report.mapper, seq=report.seq))
            self._put(name, after)
        return MapperResult(outcome="ok", desired=core.differing(after.state))

    def _by_mapper(self, before: Device, report: MapperReport) -> Device | Refused:
        kinds = {k: Kind(t) for k, t in report.types.items()}
        asked = {k: TwinAsked(actual=Asked(v), metadata=kinds.get(k)) for k, v in report.values.items()}
        done = core.update(before, asked, self._now, self._context.most_value_bytes)
        if isinstance(done, Refused):
            return done
        if done.device is not before:
            keys = [k for k in done.keys if done.device.state.twins[k] is not before.state.twins.get(k)]
            self._say_document(before, done.device, keys)
        after = done.device
        if report.problems is not None:
            after = core.say_problems(after, report.problems)
        return core.say_state(after, report.state, self._now, core.ONLINE_AGAIN_MS) if report.state else after

    def _say_document(self, before: Device, after: Device, keys: Iterable[str]) -> None:
        if changed_keys := list(keys):
            event_id = self._context.new_id()
            said = payloads.document(event_id, self._now, before, after, changed_keys)
            self._say(c.TWIN_DOCUMENT, after.key, *said)

    # --- what the cloud says ------------------------------------------------------------------------------------------
    def _set_read(self, event: SetRead) -> None:
        """A device that shows a bug of ours stays as it is; the others are taken."""
        for name in sorted(self._held.keys() - event.devices.keys()):
            self._each(name, self._attempt(Batch._go, name))
        for name, said in event.devices.items():
            self._each(name, self._attempt(Batch._adopt, name, said))
        self.as_of = event.as_of

    def _each(self, name: Name, bug: Exception | None) -> None:
        if bug is not None:
            self.bugs.append(Bug(f"Device {name[0]}/{name[1]}", bug))

    def _go(self, name: Name) -> None:
        device = self._device(name)
        if device is not None:
            self._put(name, None)
            self._say_node(c.MEMBERSHIP_UPDATED, payloads.went(self._context.new_id(), self._now, device))

    def _adopt(self, name: Name, said: Facts) -> None:
        before = self._device(name)
        if before is not None and before.uid != said.uid:
            self._go(name)
            before = None
        done = adopt(before, name, said, self._now, self._context.most_value_bytes)
        for key, why in done.refused.items():
            self.refused_desired[(name, key, said.spec.properties[key].desired or "")] = why
        base = before or Device(*name, said.uid)
        after = self._traced(base, done.device, said.trace if done.keys else "")
        self._put(name, after)
        if before is None:
            self._say_node(c.MEMBERSHIP_UPDATED, payloads.came(self._context.new_id(), self._now, after))
        if done.keys:
            self._say_document(base, after, done.keys)
            self._say_delta(after)

    def _acknowledged(self, event: Acknowledged) -> None:
        self.then.append(event.then)
        for entry in event.entries:
            device = self._device(entry.key)
            if device is not None and not device.acknowledged and device.entry == entry:
                self._put(entry.key, replace(device, acknowledged=True))

    def _resend(self, event: Resend) -> None:
        for name in event.names:
            device = self._device(name)
            if device is not None and device.revision and device.acknowledged:
                self._put(name, replace(device, acknowledged=False))

    def _repeat(self, event: Repeat) -> None:
        for name in event.names:
            device = self._device(name)
            if device is not None:
                self._say_delta(device)


_HANDLERS: dict[type, Callable[[Batch, Any], None]] = {
    Spoken: Batch._spoken,
    Reported: Batch._reported,
    SetRead: Batch._set_read,
    Acknowledged: Batch._acknowledged,
    Resend: Batch._resend,
    Repeat: Batch._repeat,
}
_TOPICS: dict[str, Callable[[Batch, Name, Spoken], None]] = {
    c.TWIN_UPDATE.pattern: Batch._update,
    c.STATE_UPDATE.pattern: Batch._state,
    c.TWIN_GET.pattern: Batch._get,
    c.MEMBERSHIP_GET.pattern: Batch._members,
}
_ANSWER_TOPICS: dict[str, AnySubject] = {
    c.TWIN_UPDATE.pattern: c.TWIN_UPDATE_RESULT,
    c.STATE_UPDATE.pattern: c.STATE_UPDATE_RESULT,
    c.TWIN_GET.pattern: c.TWIN_GET_RESULT,
    c.MEMBERSHIP_GET.pattern: c.MEMBERSHIP_RESULT,
}

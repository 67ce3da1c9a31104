"""What CloudHub decides, without I/O: whether a hello and a report may pass, and what is then kept of them.

`handlers`, `sessions` and `records` carry it out. Nothing that fails here is stored or said further.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from canopy.contracts.devices import STATES
from canopy.contracts.subject import BadToken, check_token
from canopy.contracts.wire import (
    MAX_PROBLEMS,
    MAX_STATE_BYTES,
    MAX_TWINS,
    PROTOCOL,
    DeviceState,
    Hello,
    Name,
    Problem,
    Report,
    ReportResult,
    Side,
    StateEntry,
    TwinRecord,
    TwinState,
    bounded_problems,
)
from canopy.sync.sets import digest
from canopy.sync.up import Stamp, Stored

MAX_LABELS = 64
MAX_KEY_CHARACTERS = 317
MAX_LABEL_CHARACTERS = 63
MAX_VERSION_CHARACTERS = 64
MAX_NUMBER = 2**62
MAX_UID_CHARACTERS = 128
MAX_TRACE_CHARACTERS = 256
MAX_PROPERTY_CHARACTERS = 128
MAX_METADATA = 16
MAX_METADATA_CHARACTERS = 256
MAX_TYPE_CHARACTERS = 32

_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_QUANTITY = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?([numkMGTPE]|[KMGTPE]i)?")


class Unacceptable(ValueError):
    """Something that a node said breaks a rule. The text names the field and what would be right."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Properties of a device, bytes of a value: what the edge answers 400 to, is never seen here."""

    twins: int = MAX_TWINS
    value_bytes: int = MAX_STATE_BYTES


# --- hello ------------------------------------------------------------------------------------------------------------
def negotiate(theirs: tuple[int, int], ours: tuple[int, int] = PROTOCOL) -> int:
    """The highest protocol version that both speak. Raises Unacceptable, naming both ranges."""
    highest = min(theirs[1], ours[1])
    if highest < max(theirs[0], ours[0]):
        raise Unacceptable(
            f"protocol: the edge speaks {theirs[0]} to {theirs[1]}, this cloud {ours[0]} to {ours[1]}; "
            f"update the {'edge' if theirs[1] < ours[0] else 'cloud'}"
        )
    return highest


def check_hello(hello: Hello) -> int:
    """The protocol to speak with a node that says `hello`. Raises Unacceptable."""
    if not 0 <= hello.seen < MAX_NUMBER:
        raise Unacceptable(f"seen {hello.seen}: should be a session of ours, from 0 up")
    if not 0 <= hello.n < MAX_NUMBER or len(hello.edge) > MAX_VERSION_CHARACTERS or not hello.edge.isprintable():
        raise Unacceptable(f"edge, n: should be at most {MAX_VERSION_CHARACTERS} printable characters, and from 0 up")
    if len(hello.version) > MAX_VERSION_CHARACTERS or not hello.version.isprintable():
        raise Unacceptable(f"version: should be at most {MAX_VERSION_CHARACTERS} printable characters")
    _check_map("labels", hello.labels, _LABEL, "a label's value (at most 63 letters, digits, '-', '_', '.')")
    _check_map("capacity", hello.capacity, _QUANTITY, "a quantity such as 4, 500m or 2Gi")
    return negotiate(hello.protocol)


def _check_map(field: str, values: Mapping[str, str], form: re.Pattern[str], right: str) -> None:
    if len(values) > MAX_LABELS:
        raise Unacceptable(f"{field}: {len(values)} of them; should be at most {MAX_LABELS}")
    for key, value in values.items():
        if len(key) > MAX_KEY_CHARACTERS or not _LABEL_KEY.fullmatch(key):
            raise Unacceptable(f"{field}: the key {key[:80]!r} should be a Kubernetes label's, like example.com/zone")
        if len(value) > MAX_LABEL_CHARACTERS or not form.fullmatch(value):
            raise Unacceptable(f"{field}[{key!r}]: {value[:80]!r} should be {right}")


# --- reports ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Said:
    """A report as it came: its result is `result(outcome)`."""

    report: Report
    entry: StateEntry

    @property
    def key(self) -> Name:
        return self.entry.key

    def result(self, outcome: str, reason: str = "") -> ReportResult:
        e = self.entry
        return ReportResult(
            namespace=e.namespace,
            name=e.name,
            uid=e.uid,
            revision=e.revision,
            digest=e.digest,
            outcome=outcome,
            reason=reason,
        )


def said(report: Report) -> Said:
    """A report with its entry: the digest is of the content as the edge encoded it (RULES 20)."""
    content = bytes(report.content)
    return Said(report, StateEntry(report.namespace, report.name, report.uid, report.revision, digest(content)))


def accepted(said: Said, node: str, stamp: Stamp, now_ms: int, bounds: Bounds) -> TwinRecord:
    """What TWINS shall hold of a report: our own schema, never a node's bytes. Raises Unacceptable."""
    report = said.report
    _check_names(report)
    state = _state(bytes(report.content))
    _check_state(state, bounds)
    state = msgspec.structs.replace(state, problems=_problems(state.problems))
    return TwinRecord(
        node=node,
        namespace=report.namespace,
        name=report.name,
        uid=report.uid,
        device_revision=report.device_revision,
        session=stamp[0],
        n=stamp[1],
        revision=report.revision,
        digest=said.entry.digest,
        received=now_ms,
        state=state,
        trace=report.trace if len(report.trace) <= MAX_TRACE_CHARACTERS and report.trace.isprintable() else "",
    )


def _check_names(report: Report) -> None:
    try:
        check_token("namespace", report.namespace)
        check_token("name", report.name)
    except BadToken as e:
        raise Unacceptable(str(e)[:400]) from None
    if not report.uid or len(report.uid) > MAX_UID_CHARACTERS or not report.uid.isprintable():
        raise Unacceptable(f"uid: should be the Device's, 1 to {MAX_UID_CHARACTERS} characters")
    for field in ("revision", "device_revision"):
        if not 0 <= getattr(report, field) < MAX_NUMBER:
            raise Unacceptable(f"{field} {getattr(report, field)}: should be a number from 0 up")


def _state(content: bytes) -> DeviceState:
    if len(content) > MAX_STATE_BYTES:
        raise Unacceptable(f"state too large: {len(content)} bytes; should be at most {MAX_STATE_BYTES}")
    try:
        return msgspec.json.decode(content, type=DeviceState)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Unacceptable(f"content: {e}") from None


def _check_state(state: DeviceState, bounds: Bounds) -> None:
    if len(state.twins) > bounds.twins:
        raise Unacceptable(f"twins: {len(state.twins)} of them; should be at most {bounds.twins}")
    if state.state and state.state not in STATES:
        raise Unacceptable(f"state {state.state[:40]!r}: should be one of {', '.join(STATES)}")
    if not 0 <= state.last_online < MAX_NUMBER:
        raise Unacceptable(f"last_online {state.last_online}: should be milliseconds since 1970")
    for name, twin in state.twins.items():
        _check_twin(name, twin, bounds)


def _check_twin(name: str, twin: TwinState, bounds: Bounds) -> None:
    if not 0 < len(name) <= MAX_PROPERTY_CHARACTERS or not name.isprintable():
        raise Unacceptable(f"twins: the property {name[:80]!r} should have 1 to {MAX_PROPERTY_CHARACTERS} characters")
    if len(twin.type) > MAX_TYPE_CHARACTERS or not twin.type.isprintable():
        raise Unacceptable(f"twins[{name!r}].type: should be a word of at most {MAX_TYPE_CHARACTERS} characters")
    for side, value in (("reported", twin.reported), ("expected", twin.expected)):
        if value is None:
            continue
        if why := _wrong_side(value, bounds):
            raise Unacceptable(f"twins[{name!r}].{side}.{why}")


def _wrong_side(value: Side, bounds: Bounds) -> str:
    """What is wrong with a value, after the words that say whose it is; nothing if it is right."""
    if (size := len(value.value.encode())) > bounds.value_bytes:
        return f"value: {size} bytes; should be at most {bounds.value_bytes}"
    if not 0 <= value.timestamp < MAX_NUMBER:
        return f"timestamp {value.timestamp}: should be milliseconds since 1970"
    metadata = value.metadata
    texts = (*metadata.keys(), *metadata.values()) if metadata else ()
    if len(metadata) > MAX_METADATA or any(len(t) > MAX_METADATA_CHARACTERS for t in texts):
        return f"metadata: should be at most {MAX_METADATA} texts of {MAX_METADATA_CHARACTERS} characters"
    return ""


def _problems(problems: list[Problem]) -> list[Problem]:
    """What is wrong with a device is cut, never a reason to refuse its state."""
    return bounded_problems(p for p in problems[: 2 * MAX_PROBLEMS] if _is_problem(p))


def _is_problem(p: Problem) -> bool:
    words = 0 < len(p.code) <= MAX_TYPE_CHARACTERS and len(p.property) <= MAX_PROPERTY_CHARACTERS
    times = 0 <= p.since < MAX_NUMBER and 0 <= p.last_success < MAX_NUMBER
    return words and times and p.code.isalnum() and p.property.isprintable()


# --- what TWINS holds -------------------------------------------------------------------------------------------------
class Head(msgspec.Struct, frozen=True):
    """The part of a TwinRecord that the rules look at."""

    namespace: str
    name: str
    uid: str
    revision: int
    digest: str
    session: int
    n: int


_HEAD = msgspec.json.Decoder(Head)


def stored(data: bytes, seq: int) -> Stored:
    """What a message of TWINS says to the rules. Raises msgspec.DecodeError."""
    h = _HEAD.decode(data)
    return Stored(StateEntry(h.namespace, h.name, h.uid, h.revision, h.digest), (h.session, h.n), seq)


def repeated(reports: list[Said]) -> set[int]:
    """Places in a batch whose device stands before: a batch holds each device once."""
    seen: set[Name] = set()
    places = set()
    for place, one in enumerate(reports):
        if one.key in seen:
            places.add(place)
        seen.add(one.key)
    return places

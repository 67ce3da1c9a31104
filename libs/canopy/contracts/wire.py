"""Every message that leaves a unit, declared once. Unknown fields are passed over, so that older and newer meet.

A change here is a change of the wire: `tests/architecture/snapshots/wire.json` shows it in review, and a field is only
ever added, with a default. The link's protocol version is PROTOCOL; it is negotiated at hello.
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

PROTOCOL = (1, 1)
"""The lowest and the highest protocol version that this code speaks."""

MAX_BODY_BYTES = 240 * 1024
"""The most that one body may hold; `max_payload` of every server is 256 KiB, headers included."""
MAX_STATE_BYTES = 200 * 1024
"""The most that one device's encoded state may hold."""
MAX_TWINS = 2000
"""The most properties that one device's state may have. Edge and cloud keep to the same, so that what the edge has
taken is never refused in the cloud."""

Key = tuple[str, str, str]
"""(kind, namespace, name): sorts the entries of a set."""
Name = tuple[str, str]
"""(namespace, name) of a Device."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all messages: JSON objects, defaults left out."""


class Nothing(Message, frozen=True, kw_only=True):
    """A message without content."""


# --- sets: what should be -------------------------------------------------------------------------------------------
class AsOf(Message, frozen=True, kw_only=True, omit_defaults=False):
    """How far the answering replica has seen: the epoch, and one resourceVersion a kind (RULES 1)."""

    epoch: int
    revisions: dict[str, int]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One object of a set, without its body."""

    kind: str
    namespace: str
    name: str
    uid: str
    digest: str

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)


class Put(msgspec.Struct, frozen=True, array_like=True):
    """One object of a set with its body: JSON, without status and managedFields."""

    entry: Entry
    body: msgspec.Raw


class Stamped(Message, frozen=True, kw_only=True):
    """What a node says bears its session and EdgeHub's count of messages (RULES 16); 0 until EdgeHub adds them."""

    session: int = 0
    n: int = 0


class PageAsk(Stamped, frozen=True, kw_only=True):
    """The asker's entries of the key range [start, end), sorted; `hash` of its whole set on the first page only."""

    start: Key | None = None
    end: Key | None = None
    entries: list[Entry] = []
    hash: str | None = None


class Verdict(Message, frozen=True, kw_only=True):
    """What CloudHub says of every ask: `ok`, `hello` (say hello again), `superseded`, `busy`, `refused`."""

    verdict: str = "ok"
    reason: str = ""
    retry_after_seconds: float = 0.0


class PageAnswer(Verdict, frozen=True, kw_only=True):
    """What to put and to delete in [asked start, `next`), where to go on, and the hash of the whole set."""

    as_of: AsOf | None = None
    hash: str = ""
    puts: list[Put] = []
    deletes: list[Key] = []
    next: Key | None = None
    cluster: str = ""


class Push(Message, frozen=True, kw_only=True):
    """A change as it happens; `hash` is what the set then should have."""

    as_of: AsOf
    hash: str
    puts: list[Put] = []
    deletes: list[Key] = []
    cluster: str = ""


class SetAsk(Message, frozen=True, kw_only=True):
    """CloudHub to the controller of a channel: a node's page ask."""

    node: str
    ask: PageAsk


class SetChanged(Message, frozen=True, kw_only=True):
    """MetaManager's word that a set changed; nothing depends on its being heard."""

    as_of: AsOf
    hash: str


# --- states: what is ------------------------------------------------------------------------------------------------
class Side(Message, frozen=True, kw_only=True):
    """A value with the time at which the edge took it, in ms since 1970."""

    value: str
    timestamp: int = 0
    metadata: dict[str, str] = {}


class TwinState(Message, frozen=True, kw_only=True):
    """One property of a device: what the device says (`reported`), what is wanted of it (`expected`), its type."""

    reported: Side | None = None
    expected: Side | None = None
    type: str = "string"


class Problem(Message, frozen=True, kw_only=True):
    """What is wrong with a device or (`property`) with one of its properties: a code of PROBLEMS, and a sentence.

    `since` is when it began and `last_success` when it last went well (0: not known), by the edge's clock in ms.
    """

    code: str
    reason: str = ""
    property: str = ""
    since: int = 0
    last_success: int = 0


UNREACHABLE, MISCONFIGURED, READ_FAILED = "Unreachable", "Misconfigured", "ReadFailed"
WRITE_FAILED, WRITE_REFUSED, DESIRED_REFUSED = "WriteFailed", "WriteRefused", "DesiredRefused"
PROBLEMS = (UNREACHABLE, MISCONFIGURED, READ_FAILED, WRITE_FAILED, WRITE_REFUSED, DESIRED_REFUSED)
"""Of the whole device; of one property that cannot be read or written; of a desired value that the edge refuses."""
MAX_PROBLEMS = 32
MAX_REASON_CHARACTERS = 200


def bounded_problems(problems: Iterable[Problem]) -> list[Problem]:
    """As many, and as long, as a state may hold, in a fixed order; control characters become blanks."""
    kept = sorted(problems, key=lambda p: (p.property, p.code))[:MAX_PROBLEMS]
    return [msgspec.structs.replace(p, reason=_printable(p.reason)) for p in kept]


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:MAX_REASON_CHARACTERS])


class DeviceState(Message, frozen=True, kw_only=True):
    """The whole state of one device. `state` is online, offline, ok, unknown or unhealthy; times in ms."""

    twins: dict[str, TwinState] = {}
    state: str = ""
    last_online: int = 0
    problems: list[Problem] = []


class Report(Message, frozen=True, kw_only=True):
    """One device's whole state on its way up. `content` is a DeviceState as the edge encoded it."""

    namespace: str
    name: str
    uid: str
    device_revision: int
    revision: int
    content: msgspec.Raw
    trace: str = ""


class ReportBatch(Stamped, frozen=True, kw_only=True):
    """States to be stored, each device at most once."""

    reports: list[Report] = []


class ReportResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What became of one report: `ok`, `older` (acknowledges nothing), `refused` (with a reason), `retry`."""

    namespace: str
    name: str
    uid: str
    revision: int
    digest: str
    outcome: str
    reason: str = ""


class ReportResults(Verdict, frozen=True, kw_only=True):
    """One result for each report of the batch, in its order; none unless the verdict is ok."""

    results: list[ReportResult] = []


class StateEntry(msgspec.Struct, frozen=True, array_like=True):
    """One device of the set of reported states (RULES 20)."""

    namespace: str
    name: str
    uid: str
    revision: int
    digest: str

    @property
    def key(self) -> Name:
        return (self.namespace, self.name)


class StatePageAsk(Stamped, frozen=True, kw_only=True):
    """Upward: the node's entries of [start, end), sorted."""

    start: Name | None = None
    end: Name | None = None
    entries: list[StateEntry] = []


class StatePageAnswer(Verdict, frozen=True, kw_only=True):
    """The devices of the range whose state the cloud does not hold so: to be sent again."""

    resend: list[Name] = []


class TwinRecord(Message, frozen=True, kw_only=True):
    """What the stream TWINS holds for a device: validated by CloudHub, never a node's bytes."""

    node: str
    namespace: str
    name: str
    uid: str
    device_revision: int
    session: int
    n: int
    revision: int
    digest: str
    received: int
    state: DeviceState
    trace: str = ""


# --- sessions -------------------------------------------------------------------------------------------------------
class Hello(Message, frozen=True, kw_only=True):
    """A node comes. `seen` is the highest session that this edge has had; `n` counts the hellos of one run of EdgeHub,
    `edge` names that run: a hello that was held up on its way must not take the place of a later one's session."""

    protocol: tuple[int, int] = PROTOCOL
    version: str = ""
    seen: int = 0
    labels: dict[str, str] = {}
    capacity: dict[str, str] = {}
    edge: str = ""
    n: int = 0


class Limits(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What the cloud asks of an edge. `body_bytes` is told for people: both ends keep to MAX_BODY_BYTES."""

    beat_seconds: float = 10.0
    body_bytes: int = MAX_BODY_BYTES
    reports_per_batch: int = 500


class HelloAnswer(Verdict, frozen=True, kw_only=True):
    """The session (RULES 13), the nonce of its pushes, the protocol, the cloud's time in ms, the cluster's uid."""

    session: int = 0
    nonce: str = ""
    protocol: int = 0
    limits: Limits = Limits()
    time: int = 0
    cluster: str = ""


class UnitCheck(Message, frozen=True, kw_only=True):
    """One check of a unit; `detail` says what is wrong, or what is worth knowing."""

    check: str
    ok: bool = True
    detail: str = ""


class UnitHealth(Message, frozen=True, kw_only=True):
    """What one run of a unit says of itself on its bus, at each change and on a slow timer.

    `run` names the process; `facts` are words such as `protocol` (of a mapper) and `leads`. `silent_since` (ms; 0: it
    is heard) is the word of whoever listens: EdgeHub for a node, CloudHub for the cloud.
    """

    unit: str
    run: str = ""
    version: str = ""
    checks: list[UnitCheck] = []
    facts: dict[str, str] = {}
    silent_since: int = 0


class Beat(Stamped, frozen=True, kw_only=True):
    """Every `beat_seconds`: health by unit, and the hash of the reported set (None: not compared this time).

    `units` is the health in full, `pending` how many states wait to be sent."""

    health: dict[str, str] = {}
    hash: str | None = None
    units: list[UnitHealth] = []
    pending: int = 0


class BeatAnswer(Verdict, frozen=True, kw_only=True):
    """`page`: the hash differs, send your page."""

    page: bool = False


class Session(Message, frozen=True, kw_only=True, omit_defaults=False):
    """What the bucket SESSIONS holds for a node: its session, and what it said of itself at its `hello`th hello."""

    session: int
    nonce: str
    protocol: int = 0
    version: str = ""
    labels: dict[str, str] = {}
    capacity: dict[str, str] = {}
    edge: str = ""
    hello: int = 0


class Presence(Message, frozen=True, kw_only=True):
    """CloudHub's word in CLOUD that a node was heard: at hello and at each beat. `at` in ms."""

    node: str
    at: int
    session: int
    version: str = ""
    labels: dict[str, str] = {}
    capacity: dict[str, str] = {}
    health: dict[str, str] = {}
    units: list[UnitHealth] = []
    pending: int = 0


# --- on a node ------------------------------------------------------------------------------------------------------
class LinkState(Message, frozen=True, kw_only=True, omit_defaults=False):
    """EdgeHub's word whether the cloud answers; said at each change and each beat. Batches of states are cut as the
    cloud asked when it said hello."""

    up: bool
    session: int = 0
    reason: str = ""
    reports_per_batch: int = 500


class Summary(Message, frozen=True, kw_only=True, omit_defaults=False):
    """DeviceTwin's answer to EdgeHub before a beat: the hash of its reported set and what waits to be sent."""

    hash: str
    pending: int


class MapperReport(Message, frozen=True, kw_only=True):
    """A mapper's newest values of one device. `mapper` is the mapper's session, `seq` rises a device.

    `state` may be empty (unchanged). Values are text. `problems` is all that is wrong now (None: unchanged).
    """

    namespace: str
    name: str
    mapper: str
    seq: int
    values: dict[str, str] = {}
    types: dict[str, str] = {}
    state: str = ""
    trace: str = ""
    problems: list[Problem] | None = None


class MapperResult(Message, frozen=True, kw_only=True, omit_defaults=False):
    """Said after the commit. `outcome` is ok, older or refused; `desired` is what still differs from the device."""

    outcome: str
    reason: str = ""
    desired: dict[str, str] = {}


class Delta(Message, frozen=True, kw_only=True):
    """What a device should be set to: for every property where expected differs from actual."""

    namespace: str
    name: str
    desired: dict[str, str]
    trace: str = ""


# --- spans ----------------------------------------------------------------------------------------------------------
class SpanRecord(Message, frozen=True, kw_only=True):
    """One finished span. Ids are hex as in W3C trace context; times in ns since 1970; `node` is CloudHub's word.

    `attributes` hold text; `device` is one of them: namespace/name. `error` is empty where none was.
    """

    unit: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str = ""
    start: int = 0
    end: int = 0
    attributes: dict[str, str] = {}
    error: str = ""
    node: str = ""


class SpanBatch(Message, frozen=True, kw_only=True):
    """Finished spans on their way, best effort: `dropped` are those that fell out of a full buffer since the last."""

    spans: list[SpanRecord] = []
    dropped: int = 0


# --- dead letters ---------------------------------------------------------------------------------------------------
class DeadLetter(Message, frozen=True, kw_only=True):
    """What a unit could not handle because of a bug. Times in ms since 1970; `node` is CloudHub's word.

    `source` is the subject, object or driver; `error` the exception's type, `text` what it says; `body` is base64 of
    the first bytes of `body_bytes`; `count` how often handling it failed. The id is the same whenever the same body
    fails in the same way.
    """

    id: str
    unit: str
    source: str
    error: str
    text: str = ""
    traceback: str = ""
    body: str = ""
    body_bytes: int = 0
    count: int = 1
    first: int = 0
    last: int = 0
    trace: str = ""
    node: str = ""


class LetterBatch(Message, frozen=True, kw_only=True):
    """Dead letters on their way, at least once; `dropped`: left out by a bound of the unit since the last."""

    letters: list[DeadLetter] = []
    dropped: int = 0


Json = Annotated[bytes, "a body that is not ours: MQTT payloads, decoded by the unit that owns the topic"]


def encode(message: Any) -> bytes:
    """A message as it travels; keys of dicts are sorted, so that equal content is equal bytes."""
    return _ENCODER.encode(message)


def all_messages() -> Iterable[type[msgspec.Struct]]:
    """Every struct declared here, by name (for the snapshot of the wire)."""
    found = [v for v in globals().values() if isinstance(v, type) and issubclass(v, msgspec.Struct)]
    return sorted((v for v in found if v.__module__ == __name__), key=lambda v: v.__name__)


_ENCODER = msgspec.json.Encoder(order="deterministic")

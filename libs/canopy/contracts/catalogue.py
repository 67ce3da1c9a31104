"""Every subject of the system. A literal subject anywhere else fails a test.

Four planes: `link` (between a node and CloudHub, the only thing that crosses), `cloud` (account CLOUD), `local`
(a node's leaf) and `gateway` (MQTT topics as the leaf's gateway maps them: '/' to '.', '.' to '//').
"""

from canopy.contracts import identity_wire, wire
from canopy.contracts.subject import TOPIC_NAME, AnySubject, Subject, said

DEVICES_CHANNEL = "devices"
DOWN_CHANNELS = (DEVICES_CHANNEL,)
"""Sets that a controller owns and a node follows."""
UP_CHANNEL = "twins"
"""The set that a node owns and the cloud follows."""

# --- the link -----------------------------------------------------------------------------------------------------
HELLO = Subject(
    "node.{node}.ask.hello",
    wire.Hello,
    wire.HelloAnswer,
    queue="cloudhub",
    begins=False,
    doc="a node comes: session, nonce, limits",
)
BEAT = Subject(
    "node.{node}.ask.beat",
    wire.Beat,
    wire.BeatAnswer,
    queue="cloudhub",
    begins=False,
    doc="every 10 s: health, hash of the set",
)
PAGE = Subject(
    "node.{node}.ask.page.{channel}",
    wire.PageAsk,
    wire.PageAnswer,
    queue="cloudhub",
    listed={"channel": DOWN_CHANNELS},
    begins=False,
    doc="one page of the sync downward",
)
STATE_PAGE = Subject(
    f"node.{{node}}.ask.page.{UP_CHANNEL}",
    wire.StatePageAsk,
    wire.StatePageAnswer,
    queue="cloudhub",
    begins=False,
    doc="one page of the sync upward",
)
REPORT = Subject(
    "node.{node}.ask.report",
    wire.ReportBatch,
    wire.ReportResults,
    queue="cloudhub",
    begins=False,
    doc="a batch of device states",
)
SPANS = Subject(
    "node.{node}.ask.spans", wire.SpanBatch, wire.Verdict, queue="cloudhub", begins=False, doc="a node's finished spans"
)
LETTERS = Subject(
    "node.{node}.ask.letters",
    wire.LetterBatch,
    wire.Verdict,
    queue="cloudhub",
    begins=False,
    doc="a node's dead letters",
)
AUDIT_UP = Subject(
    "node.{node}.ask.audit",
    identity_wire.AuditBatch,
    wire.Verdict,
    queue="cloudhub",
    begins=False,
    doc="a node's audit",
)
PUSH = said(
    "node.{node}.in.{nonce}.push.{channel}",
    wire.Push,
    listed={"channel": DOWN_CHANNELS},
    begins=False,
    doc="a change as it happens; dropped unless the nonce is the session's",
)
LINK_INBOX = said("node.{node}.in.r.{asker}.{id}", wire.Nothing, doc="answers to EdgeHub's asks")

# --- the cloud ------------------------------------------------------------------------------------------------------
SET_PAGE = Subject(
    "sets.{channel}.page",
    wire.SetAsk,
    wire.PageAnswer,
    queue="controllers",
    listed={"channel": DOWN_CHANNELS},
    begins=False,
    doc="CloudHub hands a page ask to the controller of that channel",
)
SET_PUSH = said(
    "sets.{channel}.push.{node}",
    wire.Push,
    queue="cloudhub",
    listed={"channel": DOWN_CHANNELS},
    begins=False,
    doc="a controller's leader hands a change to CloudHub",
)
PRESENCE = said("presence.{node}", wire.Presence, begins=False, doc="a node was heard")
CLOUD_SPANS = said(
    "spans.of.{unit}", wire.SpanBatch, queue="cloudhub", begins=False, doc="finished spans of a unit of the cloud"
)
KEPT_SPANS = said(
    "spans.kept", wire.SpanBatch, begins=False, doc="spans that one CloudHub took, for all of them to keep"
)
CLOUD_HEALTH = said("health.of.{unit}", wire.UnitHealth, begins=False, doc="health of a unit of the cloud")
CLOUD_LETTERS = Subject(
    "letters.of.{unit}",
    wire.LetterBatch,
    wire.Verdict,
    queue="cloudhub",
    begins=False,
    doc="dead letters of a unit of the cloud",
)
DEADLETTERS = said(
    "deadletters.{node}.{unit}.{id}", wire.DeadLetter, begins=False, doc="what could not be handled (a stream)"
)
TWINS = said("twins.{node}.{namespace}.{name}", wire.TwinRecord, doc="the last state of each device (a stream)")
SESSIONS = said("sessions.{node}", wire.Session, doc="the session of each node (a stream)")
CLUSTER = said("cluster.{channel}", wire.AsOf, doc="epoch and mark of each channel (a stream)")

IDENTITY_TOKEN = Subject(
    "identity.ask.token",
    identity_wire.TokenAsk,
    identity_wire.TokenAnswer,
    queue="spire",
    doc="a token by which a node may join",
)
IDENTITY_REVOKE = Subject(
    "identity.ask.revoke",
    identity_wire.RevokeAsk,
    wire.Verdict,
    queue="spire",
    doc="cut a node and keep it out, or let it in again",
)
IDENTITY_NODES = Subject(
    "identity.ask.nodes",
    identity_wire.NodesAsk,
    identity_wire.NodesAnswer,
    queue="spire",
    begins=False,
    doc="which nodes have joined, until when, and who is cut",
)
NODES = said("identity.node.{node}", identity_wire.NodeIdentity, doc="each node that has joined (a stream)")
TOKENS = said("identity.token.{id}", identity_wire.JoinToken, doc="tokens to join, as hashes (a stream)")
AUDIT = said(
    "audit.{node}.{unit}.{id}", identity_wire.AuditRecord, begins=False, doc="what was decided about whom (a stream)"
)

# --- a node's local bus ----------------------------------------------------------------------------------------------
HUB_PAGE = Subject(
    "edge.hub.ask.page.{channel}",
    wire.PageAsk,
    wire.PageAnswer,
    listed={"channel": DOWN_CHANNELS},
    begins=False,
    doc="MetaManager's page ask, carried by EdgeHub",
)
HUB_STATE_PAGE = Subject(
    f"edge.hub.ask.page.{UP_CHANNEL}",
    wire.StatePageAsk,
    wire.StatePageAnswer,
    begins=False,
    doc="DeviceTwin's page ask, carried by EdgeHub",
)
HUB_REPORT = Subject(
    "edge.hub.ask.report",
    wire.ReportBatch,
    wire.ReportResults,
    begins=False,
    doc="DeviceTwin's states, carried by EdgeHub",
)
HUB_PUSH = said(
    "edge.hub.push.{channel}",
    wire.Push,
    listed={"channel": DOWN_CHANNELS},
    begins=False,
    doc="a push, handed on by EdgeHub",
)
HUB_WANT = said("edge.hub.want.{channel}", wire.Nothing, begins=False, doc="the cloud wants a page of this channel")
HUB_SPANS = said("edge.hub.spans", wire.SpanBatch, begins=False, doc="finished spans of a unit of this node")
HUB_HEALTH = said("edge.hub.health", wire.UnitHealth, begins=False, doc="health of a unit of this node")
HUB_LETTERS = Subject(
    "edge.hub.ask.letters",
    wire.LetterBatch,
    wire.Verdict,
    begins=False,
    doc="dead letters of a unit of this node, carried by EdgeHub",
)
HUB_AUDIT = Subject(
    "edge.hub.ask.audit",
    identity_wire.AuditBatch,
    wire.Verdict,
    begins=False,
    doc="what edgeidentity decided, carried by EdgeHub",
)
LINK = said("edge.link", wire.LinkState, begins=False, doc="whether the cloud answers")
META_PAGE = Subject(
    "meta.page.{channel}",
    wire.PageAsk,
    wire.PageAnswer,
    listed={"channel": DOWN_CHANNELS},
    begins=False,
    doc="a unit of this node reads the proven set",
)
META_CHANGED = said("meta.changed.{channel}", wire.SetChanged, begins=False, doc="the proven set is another one")
TWIN_SUMMARY = Subject(
    "twin.summary", wire.Nothing, wire.Summary, begins=False, doc="hash and backlog of the reported set"
)
TWIN_POSITION = Subject(
    "twin.position",
    wire.Nothing,
    identity_wire.TwinPosition,
    begins=False,
    doc="has DeviceTwin taken its position in this run of the leaf: the gate of devices asks",
)
TWIN_REPORT = Subject(
    "twin.report", wire.MapperReport, wire.MapperResult, doc="a mapper's values, answered when durable"
)
TWIN_DELTA = said("twin.delta.{namespace}.{name}", wire.Delta, doc="what a device should be set to")

# --- the MQTT gateway (KubeEdge's contract) ---------------------------------------------------------------------------
_DEVICE = "$hw.events.device.{namespace}.{name}"
_NODE = "$hw.events.node.{node}"


def _topic(pattern: str, doc: str) -> Subject[bytes, None]:
    return Subject(pattern, bytes, dot="//", begins=False, names=TOPIC_NAME, doc=doc)


TWIN_UPDATE = _topic(_DEVICE + ".twin.update", "in: a device reports, or sets what is expected")
TWIN_GET = _topic(_DEVICE + ".twin.get", "in: what is the twin")
STATE_UPDATE = _topic(_DEVICE + ".state.update", "in: online, offline, ...")
TWIN_UPDATE_RESULT = _topic(_DEVICE + ".twin.update.result", "out: what became of an update")
TWIN_DOCUMENT = _topic(_DEVICE + ".twin.update.document", "out: last and current of each changed twin")
MQTT_DELTA = _topic(_DEVICE + ".twin.update.delta", "out: where expected differs from actual")
TWIN_GET_RESULT = _topic(_DEVICE + ".twin.get.result", "out: the twin")
STATE_UPDATE_RESULT = _topic(_DEVICE + ".state.update.result", "out: the state taken")
MEMBERSHIP_GET = _topic(_NODE + ".membership.get", "in: which devices has this node")
MEMBERSHIP_RESULT = _topic(_NODE + ".membership.get.result", "out: the devices")
MEMBERSHIP_UPDATED = _topic(_NODE + ".membership.updated", "out: a device came or went")

MQTT_IN = (TWIN_UPDATE, TWIN_GET, STATE_UPDATE, MEMBERSHIP_GET)
"""Topics on which devices speak."""
MQTT_STORED = "$MQTT.msgs."
"""What the gateway puts before a QoS 1 or 2 message's subject in its stream."""
MQTT_STREAM = "$MQTT_msgs"
MQTT_HEADER = "Nmqtt-Pub"
"""Header of a message that came over MQTT: its QoS."""


def subjects() -> dict[str, AnySubject]:
    """Every subject by its name here."""
    return {k: v for k, v in globals().items() if isinstance(v, Subject)}

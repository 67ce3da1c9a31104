"""Every metric of the system, by unit: name, kind, what it says with its unit of measure, labels. `docs/metrics.md` is
made from it (`python -m canopy.contracts.measures`), and `canopy.runtime.metrics` takes help and kind from here.

A name is `canopy_UNIT_WHAT_UNIT-OF-MEASURE`; what only rises ends in `_total`. A metric is renamed by adding another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY, SPIRE_INTEGRATION

Kind = Literal["counter", "gauge", "histogram"]
UNITS = (*CLOUD_UNITS, SPIRE_INTEGRATION, *EDGE_UNITS, EDGEIDENTITY)
"""In the order of the page."""
SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of every histogram: all of them are of seconds."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric. `unit` is "" for what each process has."""

    unit: str
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


def _of(unit: str, *rows: tuple[str, Kind, str] | tuple[str, Kind, str, str]) -> Iterator[Measure]:
    """Rows of (name, kind, help, labels with spaces between)."""
    prefix = f"canopy_{unit}_"
    for name, kind, text, *labels in rows:
        yield Measure(unit, prefix + name, kind, text, tuple(" ".join(labels).split()))


def _each(unit: str) -> Iterator[Measure]:
    """What every unit has."""
    return _of(
        unit,
        ("unsaid_total", "counter", "Messages lost because too many wait for the server already (messages)."),
        ("dead_letters_total", "counter", "Dead letters that this unit made (letters)."),
        ("dead_letters_waiting", "gauge", "Dead letters that the cloud does not have as they are now (letters)."),
        ("dead_letters_dropped_total", "counter", "Dead letters that a bound of this unit left out (letters)."),
    )


_PROCESS = (
    Measure("", "process_cpu_seconds_total", "counter", "CPU time, user and system (seconds)."),
    Measure("", "process_resident_memory_bytes", "gauge", "Resident memory (bytes)."),
    Measure("", "process_open_fds", "gauge", "Open file descriptors (descriptors)."),
    Measure("", "process_max_fds", "gauge", "Most open file descriptors (descriptors)."),
    Measure("", "process_start_time_seconds", "gauge", "When the process began (seconds since 1970)."),
    Measure("", "canopy_process_uptime_seconds", "gauge", "How long the process has run (seconds)."),
    Measure("", "canopy_build_info", "gauge", "Always 1; the label says the version.", ("version",)),
    Measure("", "canopy_identity_left_seconds", "gauge", "Until this process's certificate ends (seconds).", ("id",)),
    Measure("", "canopy_identity_late", "gauge", "Whether it should have been renewed by now: 1 or 0.", ("id",)),
    Measure("", "canopy_metrics_left_out_total", "counter", "Changes of series beyond 1,000 a metric (changes)."),
)

_CLOUDHUB = _of(
    "cloudhub",
    ("hellos_total", "counter", "Hellos of nodes, by verdict: ok opened a session (hellos).", "verdict"),
    ("beats_total", "counter", "Beats by verdict; page: the set differed (beats).", "verdict"),
    ("reports_total", "counter", "Device states by outcome (states).", "outcome"),
    ("pages_total", "counter", "Pages of the sync, by channel and verdict (pages).", "channel verdict"),
    ("busy_total", "counter", "Asks answered with `busy`, by what was asked (asks).", "what"),
    ("pushes_total", "counter", "Changes handed to a node (pushes).", "channel"),
    ("dropped_total", "counter", "What a bound dropped: pushes without a session, slow watches (messages).", "what"),
    ("purged_total", "counter", "Records of TWINS purged because their node does not list them (records)."),
    ("states_in_hand", "gauge", "Device states taken and not yet answered (states)."),
    ("writes_total", "counter", "Writes to TWINS that were answered (writes)."),
    ("write_seconds", "histogram", "Time of a write to TWINS until its answer (seconds)."),
    ("live_anew_total", "counter", "Nodes whose live twins were written anew from TWINS (nodes)."),
    ("cache_failures_total", "counter", "Times that the cache did not answer (times)."),
    ("watchers", "gauge", "Open watches of the fleet API (watches)."),
    ("sessions", "gauge", "Nodes that have had a session (nodes)."),
    ("nodes", "gauge", "Nodes with records in TWINS (nodes)."),
    ("records", "gauge", "Records in TWINS (records)."),
    ("spans_total", "counter", "Spans taken, by source (spans).", "source"),
    ("spans_dropped_total", "counter", "Spans that were lost, by where (spans).", "where"),
    ("traces", "gauge", "Traces kept (traces)."),
    ("otlp_sent_total", "counter", "Spans that the OTLP endpoint took (spans)."),
    ("otlp_failed_total", "counter", "Spans that the OTLP endpoint did not take (spans)."),
    ("letters_total", "counter", "Dead letters stored, by plane (letters).", "plane"),
    ("letters_dropped_total", "counter", "Dead letters that were lost, by why (letters).", "why"),
    ("audit_total", "counter", "Records of nodes' audit stored, by what was decided (records).", "what"),
    ("audit_dropped_total", "counter", "Records of nodes' audit that were lost, by why (records).", "why"),
)

_DEVICECONTROLLER = _of(
    "devicecontroller",
    ("pages_total", "counter", "Pages answered (pages)."),
    ("pushes_total", "counter", "Pushes said (pushes)."),
    ("writes_total", "counter", "Writes to Kubernetes, by what was written (writes).", "what"),
    ("conflicts_total", "counter", "Writes that Kubernetes refused as outdated (writes)."),
    ("failures_total", "counter", "Writes and reads that failed otherwise (calls)."),
    ("purges_total", "counter", "Records of TWINS that were of no device (records)."),
    ("budget_waits_total", "counter", "Times that only the budget held a write (times)."),
    ("lag_seconds", "gauge", "For how long the device written last had been dirty (seconds)."),
    ("oldest_waiting_seconds", "gauge", "Age of the oldest DeviceStatus that waits to be written (seconds)."),
    ("backlog", "gauge", "Devices to look at (devices)."),
    ("devices", "gauge", "Devices known (devices)."),
    ("models", "gauge", "DeviceModels known (models)."),
    ("nodes", "gauge", "Nodes that should have anything (nodes)."),
    ("leads", "gauge", "Whether this replica leads: 1 or 0."),
    ("watches_failing", "gauge", "Kinds of Kubernetes that cannot be watched now (kinds)."),
    ("informer_age_seconds", "gauge", "Since Kubernetes last said anything of a kind (seconds).", "kind"),
)

_EDGECONTROLLER = _of(
    "edgecontroller",
    ("heard_total", "counter", "Words of nodes heard (words)."),
    ("writes_total", "counter", "Writes to Kubernetes, by what was written (writes).", "what"),
    ("conflicts_total", "counter", "Writes that Kubernetes refused as outdated (writes)."),
    ("failures_total", "counter", "Writes that failed otherwise (writes)."),
    ("budget_waits_total", "counter", "Times that only the budget held a write (times)."),
    ("dropped_total", "counter", "Words of nodes beyond the most that are remembered (words)."),
    ("lag_seconds", "gauge", "For how long the node written last had been dirty (seconds)."),
    ("backlog", "gauge", "Nodes to look at (nodes)."),
    ("nodes", "gauge", "Nodes known (nodes)."),
    ("heard", "gauge", "Nodes heard in the last hour (nodes)."),
    ("leads", "gauge", "Whether this replica leads: 1 or 0."),
    ("watches_failing", "gauge", "Kinds of Kubernetes that cannot be watched now (kinds)."),
    ("informer_age_seconds", "gauge", "Since Kubernetes last said anything of a kind (seconds).", "kind"),
)

_SPIRE_INTEGRATION = _of(
    "spire_integration",
    ("admissions_total", "counter", "Connections let in by the auth callout, by kind (connections).", "kind"),
    ("refusals_total", "counter", "Connections refused, by why; tls: by a hub's server itself (connections).", "why"),
    ("late_total", "counter", "Requests of the auth callout too old to be answered (requests)."),
    ("callout_seconds", "histogram", "Time to decide on one connection and to sign the answer (seconds)."),
    ("waiting", "gauge", "Requests of the auth callout that wait to be decided on (requests)."),
    ("joined", "gauge", "Nodes that have joined (nodes)."),
    ("revoked", "gauge", "Nodes that are cut off (nodes)."),
    ("kicked_total", "counter", "Connections of revoked nodes that were closed (connections)."),
    ("written_total", "counter", "What was written elsewhere: entries, identity files (writes).", "what"),
    ("failures_total", "counter", "Times that a part did not answer, by part (times).", "part"),
    ("join_asks_total", "counter", "Asks at the join endpoint, by what and outcome (asks).", "outcome what"),
    ("join_connections", "gauge", "Connections to the join endpoint (connections)."),
    ("audit_total", "counter", "Decisions of the audit, repeated ones each time (decisions)."),
    ("audit_waiting", "gauge", "Records of the audit that the stream does not hold yet (records)."),
    ("audit_dropped_total", "counter", "Records of the audit that a bound of this unit left out (records)."),
)

_EDGEHUB = _of(
    "edgehub",
    ("up", "gauge", "Whether the cloud answers: 1 or 0."),
    ("session", "gauge", "The session; 0: none."),
    ("sessions_total", "counter", "Sessions begun (sessions)."),
    ("refusals_total", "counter", "What the cloud refused of the session, by verdict (answers).", "verdict"),
    ("asks_total", "counter", "Asks carried up, by subject and outcome (asks).", "outcome subject"),
    ("pushes_total", "counter", "Pushes, by what became of them; dropped: of another session (pushes).", "outcome"),
    ("spans_waiting", "gauge", "Spans that wait to go up (spans)."),
    ("spans_dropped_total", "counter", "Spans dropped on this node (spans)."),
)

_METAMANAGER = _of(
    "metamanager",
    ("devices_objects", "gauge", "Objects in the copy of the channel `devices` (objects)."),
    ("devices_proven", "gauge", "Whether that copy is proven to equal the cloud's set: 1 or 0."),
    ("equal_seconds", "histogram", "From link up until the set is proven to equal the cloud's (seconds)."),
    ("last_equal_seconds", "gauge", "The newest of these times (seconds)."),
    ("commit_seconds", "histogram", "Time of a commit, fsync included (seconds)."),
)

_DEVICETWIN = _of(
    "devicetwin",
    ("devices", "gauge", "Devices of this node (devices)."),
    ("states_pending", "gauge", "States that wait to go up (states)."),
    (
        "oldest_pending_seconds",
        "gauge",
        "For how long the oldest of them has waited, since the start at most (seconds).",
    ),
    ("messages_waiting", "gauge", "Messages of QoS 0 and reports of mappers that wait for a commit (messages)."),
    ("messages_total", "counter", "Messages and events applied (messages)."),
    ("dropped_total", "counter", "Messages dropped, by why (messages).", "why"),
    ("failed_total", "counter", "Messages set aside because of a bug (messages)."),
    ("commit_seconds", "histogram", "Time of a commit, fsync included (seconds)."),
    ("equal_seconds", "histogram", "From link up until nothing waits to go up (seconds)."),
    ("last_equal_seconds", "gauge", "The newest of these times (seconds)."),
)

_MAPPER = _of(
    "mapper",
    ("devices", "gauge", "Devices of this mapper's driver (devices)."),
    ("devices_online", "gauge", "Those that answer (devices)."),
)

_EDGEIDENTITY = _of(
    "edgeidentity",
    ("link_left_seconds", "gauge", "Until the certificate of the link to the hub ends (seconds)."),
    ("leaf_left_seconds", "gauge", "Until the certificate of the leaf's listeners ends (seconds)."),
    ("root_left_seconds", "gauge", "Until the newest root of this node's own authority ends (seconds)."),
    ("reloads_total", "counter", "Times that the leaf read its configuration, by result (reloads).", "result"),
    ("gate_open", "gauge", "Whether devices are let in: 1 or 0."),
    ("guests", "gauge", "Devices and apps that the leaf lets in now (identities)."),
    ("audit_total", "counter", "Decisions of the audit, repeated ones each time (decisions)."),
    ("audit_waiting", "gauge", "Records of the audit that the cloud does not have yet (records)."),
    ("audit_dropped_total", "counter", "Records of the audit that a bound of this unit left out (records)."),
    ("link_late", "gauge", "Whether the node's own certificate should have been renewed by now: 1 or 0."),
    ("front_connections", "gauge", "MQTT clients that speak through the front (clients)."),
    ("front_admitted_total", "counter", "MQTT clients that the front let in, by how they came (clients).", "how"),
    ("front_refused_total", "counter", "MQTT clients that the front refused, by why (clients).", "why"),
)

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for group in (
        _PROCESS,
        _CLOUDHUB,
        _DEVICECONTROLLER,
        _EDGECONTROLLER,
        _SPIRE_INTEGRATION,
        _EDGEHUB,
        _METAMANAGER,
        _DEVICETWIN,
        _MAPPER,
        _EDGEIDENTITY,
        *(_each(unit) for unit in UNITS),
    )
    for measure in group
}


def page() -> str:
    """`docs/metrics.md`."""
    lines = [
        "# Metrics",
        "Each process serves them as Prometheus text at `/metrics` of its health port (`CANOPY_HEALTH_LISTEN`); units",
        "that share a process share the page. This table is made by `python -m canopy.contracts.measures`.",
    ]
    for unit in ("", *UNITS):
        lines += ["", f"## {unit or 'Every process'}", "| name | kind | what | labels |", "|---|---|---|---|"]
        of_unit = (m for m in MEASURES.values() if m.unit == unit)
        lines += [f"| `{m.name}` | {m.kind} | {m.help} | {', '.join(m.labels) or '-'} |" for m in of_unit]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())

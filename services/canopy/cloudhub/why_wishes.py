"""The way back of `why`: whether what is wished has come true, and whether Kubernetes shows what is. Pure."""

from collections.abc import Iterator

import msgspec

from canopy.cloudhub.steps import Facts, Step, ok, stop, unknown
from canopy.contracts.catalogue import MQTT_DELTA
from canopy.contracts.wire import DESIRED_REFUSED, WRITE_FAILED, WRITE_REFUSED, TwinRecord, TwinState

GRACE_MS = 5_000
"""What began so shortly ago is still on its way."""
REFUSALS = (DESIRED_REFUSED, WRITE_REFUSED, WRITE_FAILED)
STAMP = "canopy"
"""Where DeviceController writes what a DeviceStatus was derived from."""


def wishes(facts: Facts) -> Step:
    """Whether the desired values are taken and reported."""
    name = "desired"
    wanted = {p.name: p.desired.value for p in facts.device.spec.properties if p.desired} if facts.device else {}
    if not wanted:
        return ok(name, "nothing is wished of it")
    found = list(_refused(facts, name, wanted)) or list(_open(facts, name, wanted))
    return found[0] if found else ok(name, f"fulfilled: {', '.join(sorted(wanted)[:8])}")


def _refused(facts: Facts, name: str, wanted: dict[str, str]) -> Iterator[Step]:
    for problem in facts.record.state.problems if facts.record else []:
        if problem.code in REFUSALS and problem.property in wanted:
            by = "the edge" if problem.code == DESIRED_REFUSED else "the mapper"
            verb = "could not write" if problem.code == WRITE_FAILED else "refuses"
            text = f"{by} {verb} {problem.property}={wanted[problem.property]}: {problem.reason}"
            other = f"canopy device set {facts.namespace}/{facts.name} {problem.property}=VALUE"
            model = f"what it may be: kubectl get devicemodel {facts.model_name} -n {facts.namespace} -o yaml"
            yield stop(name, text, problem.since, (model, other))


def _open(facts: Facts, name: str, wanted: dict[str, str]) -> Iterator[Step]:
    twins = facts.record.state.twins if facts.record else {}
    for key, value in sorted(wanted.items()):
        twin = twins.get(key, TwinState())
        if twin.reported is not None and agrees(twin.reported.value, value):
            continue
        yield _unfulfilled(facts, name, key, value, twin)


def _unfulfilled(facts: Facts, name: str, key: str, value: str, twin: TwinState) -> Step:
    is_ = twin.reported.value[:40] if twin.reported else "nothing"
    if twin.expected is None:
        text = f"{key}={value[:40]} has not been taken by the node yet"
        tries = (
            "it should take a second: ask again",
            f"then the logs of metamanager and devicetwin on {facts.on}",
        )
        return stop(name, text, tries=tries)
    if not agrees(twin.expected.value, value):
        text = f"{key}: the edge goes by {twin.expected.value[:40]}, which was set there, not by {value[:40]}"
        again = f"say it anew: canopy device set {facts.namespace}/{facts.name} {key}=VALUE"
        return stop(name, text, twin.expected.timestamp, (again,))
    text = f"{key}={value[:40]} is not fulfilled: the device says {is_}"
    if facts.now - twin.expected.timestamp < GRACE_MS:
        return unknown(name, f"{text}, just now", twin.expected.timestamp)
    tries = ("it is said again until the device agrees: does the device take it?", _listen(facts))
    return stop(name, text, twin.expected.timestamp, tries)


def _listen(facts: Facts) -> str:
    if facts.speaks_itself:
        return f"it should hear {facts.topic(MQTT_DELTA)}"
    return f"the log of mapper on {facts.on}"


def status(facts: Facts) -> Step:
    """Whether the DeviceStatus of Kubernetes shows the live twin."""
    name, record = "status", facts.record
    if record is None:
        return unknown(name, "there is nothing to be shown in Kubernetes yet")
    if _shown(facts) == (record.node, record.session, record.n):
        return ok(name, "the DeviceStatus in Kubernetes shows just this", record.received)
    if facts.now - record.received < GRACE_MS:
        return unknown(name, "the DeviceStatus is being written", record.received)
    return stop(name, f"the DeviceStatus in Kubernetes {_behind(facts, record)}", record.received, _status_tries(facts))


def _shown(facts: Facts) -> tuple[str, int, int] | None:
    stamp = ((facts.status.status.extensions if facts.status else None) or {}).get(STAMP, {})
    try:
        found = msgspec.convert(stamp, _Stamp)
    except msgspec.ValidationError:
        return None
    return found.node, found.session, found.n


class _Stamp(msgspec.Struct):
    node: str = ""
    session: int = 0
    n: int = 0


def _behind(facts: Facts, record: TwinRecord) -> str:
    return "is not there" if facts.status is None else f"is behind the live twin (state {record.revision})"


def _status_tries(facts: Facts) -> tuple[str, ...]:
    look = f"kubectl get devicestatus {facts.name} -n {facts.namespace} -o yaml"
    return ("does devicecontroller lead, and may it write? canopy status, and its log", look)


def agrees(a: str, b: str) -> bool:
    """Whether two texts are the same value: numbers as numbers, true as TRUE."""
    try:
        return a == b or a.lower() == b.lower() or float(a) == float(b)
    except ValueError:
        return False

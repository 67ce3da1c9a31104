"""The steps of `why` from the link to the device: what CloudHub was told of the node, and of the device. Pure."""

import difflib

from canopy.bus.healths import wrong
from canopy.cloudhub.steps import Facts, Step, ok, stop, unknown
from canopy.contracts.catalogue import TWIN_UPDATE
from canopy.contracts.wire import MISCONFIGURED, READ_FAILED, UNREACHABLE, Problem, TwinRecord

UNITS = ("edgehub", "metamanager", "devicetwin")
QUIET_MS = 600_000
"""After so long without a new value, an MQTT device may be silent, or have nothing new to say."""


def link(facts: Facts) -> Step:
    """Whether the node is there."""
    name, on = "link", facts.on
    if not on:
        return unknown(name, "no node is named")
    if facts.presence is None:
        return _never_heard(facts, name)
    if not facts.online:
        tries = (
            f"is the machine up, and its way to the hub (TCP to the leaf port)? on it: the log of edgehub on {on}",
            "the node goes on by itself; what it has to say comes up when the link is back",
        )
        text = f"node {on} is away: the link is cut, or the machine or its edgehub is down"
        return stop(name, text, facts.presence.at, tries)
    if facts.node is None and not facts.node_hidden:
        tries = ("is edgecontroller up and leading? canopy status", f"kubectl get node {on}")
        return stop(name, f"node {on} is heard, but not admitted: Kubernetes has no such Node", tries=tries)
    return ok(name, f"node {on} is heard", facts.presence.at)


def _never_heard(facts: Facts, name: str) -> Step:
    on, node = facts.on, facts.node
    if node is None and not facts.node_hidden:
        near = difflib.get_close_matches(on, list(facts.nodes), 3, 0.6)
        hint = f"; is it {' or '.join(near)}?" if near else ""
        tries = ("canopy node list", f"on the machine: is CANOPY_NODE_NAME {on}, and has it joined? (log of edgehub)")
        return stop(name, f"node {on} has never been seen: no edge of that name has joined{hint}", tries=tries)
    if node is not None and not node.managed:
        tries = (f"start Canopy's edge there with CANOPY_NODE_NAME={on}", "canopy node list")
        return stop(name, f"node {on} is a kubelet's: no edge of Canopy was heard there", tries=tries)
    text = f"node {on} has not been heard since this CloudHub remembers"
    since = node.since if node and not node.ready else 0
    return stop(name, text, since, ("is the machine up? (log of edgehub there)", "canopy node list"))


def node(facts: Facts) -> Step:
    """The units of the node that every device needs."""
    name, presence = "node", facts.presence
    units = [one for one in presence.units if one.unit in UNITS] if presence else []
    if not units or presence is None:
        return unknown(name, "it does not say how its units are")
    for one in units:
        if text := wrong(one):
            tries = (f"on {facts.on}: the log of {one.unit}", f"start it again: canopy run {one.unit}")
            return stop(name, f"{one.unit} on {facts.on}: {text}", one.silent_since, tries)
    waiting = f"; {presence.pending} states wait to go up" if presence.pending else ""
    return ok(name, f"{', '.join(one.unit for one in units)} are well{waiting}")


def devicetwin(facts: Facts) -> Step:
    """Whether the node has sent a state of the device."""
    name, record = "devicetwin", facts.record
    if record is None:
        return unknown(name, f"{facts.on or 'no node'} has sent no state of this device")
    return ok(name, f"state {record.revision} of the device has come", record.received)


def mapper(facts: Facts) -> Step:
    """Whether one mapper speaks the device's protocol."""
    name, presence = "mapper", facts.presence
    if facts.speaks_itself:
        return ok(name, "none is needed: the device speaks MQTT itself")
    if presence is None or not presence.units:
        return unknown(name, "the node does not say which mappers it has")
    found = facts.mappers
    alive = [one for one in found if not one.silent_since]
    if not found:
        return _no_mapper(facts, name)
    if not alive:
        tries = (f"on {facts.on}: is its process up? (log of mapper)", "start it again: canopy run mapper")
        text = f"the mapper for {facts.protocol} on {facts.on} is silent: its process has ended, or hangs"
        return stop(name, text, max(one.silent_since for one in found), tries)
    if len(alive) > 1:
        text = f"{len(alive)} mappers for {facts.protocol} run on {facts.on}: they take the device from each other"
        return stop(name, text, tries=(f"end all but one on {facts.on}: runs {', '.join(o.run for o in alive)}",))
    if text := wrong(alive[0]):
        return stop(name, f"the mapper for {facts.protocol} says {text}", tries=(f"on {facts.on}: the log of mapper",))
    return ok(name, f"the mapper for {facts.protocol} is well")


def _no_mapper(facts: Facts, name: str) -> Step:
    others = [one.facts.get("protocol", "?") for one in facts.presence.units if one.unit == "mapper"]  # type: ignore[union-attr]
    there = f"it has one for {', '.join(others)}" if others else "it has none at all"
    text = f"no mapper on {facts.on} speaks {facts.protocol}: {there}"
    if facts.record is not None and any(t.reported for t in facts.record.state.twins.values()):
        return unknown(name, f"{text}; the device reports all the same")
    tries = (f"on {facts.on}: canopy mapper run {facts.protocol}", "or set spec.protocol.protocolName of the Device")
    return stop(name, text, tries=tries)


def device(facts: Facts) -> Step:
    """What the device itself last was."""
    name, record = "device", facts.record
    if record is None:
        return _unheard(facts, name)
    for problem in record.state.problems:
        if problem.code in (UNREACHABLE, MISCONFIGURED):
            return _ailing(facts, name, problem)
    unread = [p for p in record.state.problems if p.code == READ_FAILED]
    if unread:
        return _unread(facts, name, record, unread)
    if record.state.state in ("offline", "unhealthy"):
        tries = ("look at the device, its power and its line", f"canopy trace {facts.namespace}/{facts.name}")
        return stop(name, f"it is {record.state.state}", record.state.last_online, tries)
    return _reporting(facts, name, record)


def _unheard(facts: Facts, name: str) -> Step:
    if not facts.speaks_itself:
        return unknown(name, "nothing was ever heard of it")
    tries = (
        f"on {facts.on}: does it publish to {facts.topic(TWIN_UPDATE)}?",
        "the answer is on the same topic with /result behind it",
    )
    return stop(name, "it has never reported anything over MQTT", tries=tries)


def _ailing(facts: Facts, name: str, problem: Problem) -> Step:
    if problem.code == MISCONFIGURED:
        edit = f"kubectl edit device {facts.name} -n {facts.namespace}"
        return stop(name, f"its configuration is wrong: {problem.reason}", problem.since, (edit,))
    last = "" if problem.last_success else " (never since its mapper began)"
    tries = (
        "look at the device: power, cable, address; the mapper tries again by itself",
        f"is spec.protocol.configData right? kubectl get device {facts.name} -n {facts.namespace} -o yaml",
    )
    return stop(name, f"it does not answer its mapper{last}: {problem.reason}", problem.since, tries)


def _unread(facts: Facts, name: str, record: TwinRecord, unread: list[Problem]) -> Step:
    first = unread[0]
    more = f", and {len(unread) - 1} more" if len(unread) > 1 else ""
    text = f"property {first.property} cannot be read: {first.reason}{more}; the device itself answers"
    tries = (
        f"the visitors of {first.property}: kubectl get device {facts.name} -n {facts.namespace} -o yaml",
        f"and of its model: kubectl get devicemodel {facts.model_name} -n {facts.namespace} -o yaml",
    )
    return stop(name, text, first.since, tries)


def _reporting(facts: Facts, name: str, record: TwinRecord) -> Step:
    said = [t.reported.timestamp for t in record.state.twins.values() if t.reported is not None]
    if not said:
        return unknown(name, f"it has reported no value{_is(record)}")
    if facts.speaks_itself and facts.now - max(said) > QUIET_MS:
        return unknown(name, f"nothing new from it{_is(record)}; equal values look like silence here", max(said))
    return ok(name, f"{len(said)} properties are reported{_is(record)}", max(said))


def _is(record: TwinRecord) -> str:
    return f", it is {record.state.state}" if record.state.state else ""

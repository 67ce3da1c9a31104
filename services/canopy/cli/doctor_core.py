"""What `canopy doctor` makes of what it saw on a node: facts -> findings, each with what to try. Pure.

`doctor_files` and `doctor_dial` gather the facts, `doctor` shows the findings.
"""

from collections.abc import Callable, Iterator, Sequence

from canopy.cli.doctor_facts import MOST_NAMED, Dialled, Finding, Lasting, NodeFacts, age, ends, listed, shown
from canopy.identity.sources import HALF_LIFE_SPREAD
from canopy.launch.lasting import LATE

CLOCK_SECONDS = 10.0
"""Authorities begin a certificate so long before it is made: a clock further behind believes none that is new."""
LITTLE_BYTES = 256 * 1024 * 1024
LITTLE_FILES = 1_000
LOG = "the log of edgeidentity (journalctl, or the terminal of canopy join --start) says why"


def node_findings(facts: NodeFacts, now: float) -> tuple[Finding, ...]:
    """In the order in which one depends on the next."""
    return tuple(finding for judge in NODE for finding in judge(facts, now))


def _joined(facts: NodeFacts, now: float) -> Iterator[Finding]:
    if not facts.not_joined:
        yield Finding("joined", "ok", f"this machine is the node {facts.node}")
    elif facts.given:
        yield Finding("joined", "ok", "not by a token: others write the certificate of the link (files or an agent)")
    else:
        tries = ("canopy node token NODE, in the cloud", f"canopy join --token ... --dir {facts.folder}, here")
        yield Finding("joined", "wrong", facts.not_joined, tries)


def _link(facts: NodeFacts, now: float) -> Iterator[Finding]:
    if facts.link.doubt and not facts.link.id:
        if not facts.not_joined or facts.given:
            yield Finding("link", "wrong", facts.link.doubt, (_start(facts), LOG))
        return
    tries: tuple[str, ...] = (LOG, f"is {facts.node} revoked? canopy node list, in the cloud", _start(facts))
    if facts.link.ends <= now:
        tries = (
            "the node works on; reached within the grace, the join endpoint renews it also now",
            *tries,
            f"after the grace: canopy node token {facts.node}, and canopy join --token ... --dir {facts.folder}",
        )
    yield _certificate("link", facts.link, now, tries)


def _authority(facts: NodeFacts, now: float) -> Iterator[Finding]:
    if not facts.configured and not facts.roots:
        return
    readable = [root for root in facts.roots if root.id]
    broken = next((root for root in facts.roots if not root.id), None)
    if broken or not readable:
        text = f"{broken.name}: {broken.doubt}" if broken else "no root of this node's own authority is there"
        yield Finding("authority", "wrong", text, (_start(facts), LOG))
        return
    newest = max(readable, key=lambda root: root.ends)
    more = f", {len(readable)} roots" if len(readable) > 1 else ""
    found = _certificate("authority", newest, now, ("edgeidentity makes the next root: does it run?", LOG))
    yield Finding(found.check, found.verdict, found.text + more, found.tries)


def _units(facts: NodeFacts, now: float) -> Iterator[Finding]:
    if not facts.units:
        return
    judged = [(one, _certificate(one.name, one, now, ())) for one in facts.units]
    wrong = [f"{one.name}: {found.text}" for one, found in judged if found.verdict == "wrong"]
    if wrong:
        tries = ("edgeidentity renews them, without the cloud: does it run, is the disk full, is the clock right?", LOG)
        return (yield Finding("units", "wrong", listed(wrong), tries))
    first = min(facts.units, key=lambda one: one.ends)
    yield Finding("units", "ok", f"{len(facts.units)} certificates; {first.name} ends first, {_until(first, now)}")


def _keys(facts: NodeFacts, now: float) -> Iterator[Finding]:
    if facts.loose:
        said = [f"{one.path} is {one.mode:04o}" + (f" and of {one.owner}" if one.owner else "") for one in facts.loose]
        open_to_others = [one for one in facts.loose if one.mode & 0o077]
        tries = [f"chmod 600 {one.path}" for one in open_to_others[:MOST_NAMED]]
        tries += ["who could read a key may have it: docs/security.md"] if open_to_others else []
        tries += ["chown what is another's to the user of edgeidentity"] if any(o.owner for o in facts.loose) else []
        yield Finding("key files", "wrong", listed(said), tuple(tries))
    elif facts.keys:
        yield Finding("key files", "ok", f"{facts.keys} files with keys, for their owner alone")


def _clock(facts: NodeFacts, now: float) -> Iterator[Finding]:
    tries = ("timedatectl: does this machine keep its time (NTP, chrony)?", "set it right, then look again")
    ahead = next((one.ahead_seconds for one in facts.join if one.ahead_seconds is not None), None)
    if ahead is not None and abs(ahead) > CLOCK_SECONDS:
        where = "ahead of" if ahead > 0 else "behind"
        text = f"{age(abs(ahead))} {where} the join endpoint's: certificates are not believed at the right time"
        return (yield Finding("clock", "wrong", text, tries))
    if ahead is not None:
        return (yield Finding("clock", "ok", f"within {CLOCK_SECONDS:g} s of the join endpoint's"))
    if facts.link.id and now < facts.link.begins:
        text = f"before the beginning of the link's certificate ({shown(facts.link.begins)}): it is behind"
        yield Finding("clock", "wrong", text, tries)
    elif facts.link.id:
        yield Finding("clock", "unknown", "nobody tells the time; it is after the beginning of the link's certificate")


def _join(facts: NodeFacts, now: float) -> Iterator[Finding]:
    tries = (
        "is the address right, is spire_integration up, does a firewall stand between?",
        "the node works on meanwhile",
    )
    strange = ("somebody else answers there, or the join root was made anew (then join with a new token)", *tries[:1])
    if facts.join:
        yield _any_of("join endpoint", facts.join, "answers under the join root", tries, strange)


def _hub(facts: NodeFacts, now: float) -> Iterator[Finding]:
    tries = ("is the hub up, does a firewall stand before its leaf port?", "the node works on, and catches up later")
    strange = (
        "is the link's certificate over, or the node revoked (canopy node list)?",
        "is CANOPY_EDGEIDENTITY_HUB_URL this fleet's hub? canopy audit --outcome refused, in the cloud",
    )
    if facts.hub:
        yield _any_of("hub", facts.hub, "is the fleet's hub, by its certificate", tries, strange)


def _linked(facts: NodeFacts, now: float) -> Iterator[Finding]:
    if not facts.configured or facts.leaf.fault:
        return
    if facts.linked is None:
        return (yield Finding("linked", "unknown", "the leaf does not say whether it has its connection to the hub"))
    if facts.linked:
        return (yield Finding("linked", "ok", "the leaf has its connection to the hub"))
    if all(one.fault for one in facts.hub):
        text = "the leaf has no connection to the hub: the node works on alone"
        return (yield Finding("linked", "wrong", text, ("see link and hub above",)))
    tries = (
        f"canopy audit --node {facts.node} --outcome refused, in the cloud: why?",
        f"is it revoked? canopy node list; canopy node restore {facts.node}, in the cloud",
        "is spire_integration up? then the log of this node's nats-server",
    )
    yield Finding("linked", "wrong", "the hub answers, and the leaf has no connection: it is not let in", tries)


def _here(facts: NodeFacts, now: float) -> Iterator[Finding]:
    """What this node's processes offer."""
    if not facts.configured:
        if not facts.not_joined or facts.given:
            yield Finding("leaf", "wrong", "edgeidentity has not written its nats.conf yet", (_start(facts), LOG))
        return
    server = ("does nats-server run? its log", _start(facts))
    asked = ("does edgeidentity run? its log", _start(facts))
    offers = (
        ("leaf", facts.leaf, "listens for units, by its certificate", server),
        ("gateway", facts.gateway, "listens for MQTT over TLS, by its certificate", server),
        ("admin socket", facts.admin, "edgeidentity answers", asked),
    )
    for check, dialled, good, tries in offers:
        yield _any_of(check, (dialled,), good, tries, tries)


def _disk(facts: NodeFacts, now: float) -> Iterator[Finding]:
    if not facts.disks:
        return
    for disk in facts.disks:
        files = disk.free_files is not None and disk.free_files < LITTLE_FILES
        if disk.free_bytes < LITTLE_BYTES or files:
            left = f"{disk.free_files} files" if files else f"{disk.free_bytes // 1_000_000} MB"
            text = f"{disk.where}: {left} left; without room nothing is stored and nothing renewed"
            return (yield Finding("disk", "wrong", text, (f"df -h {disk.where}; df -i {disk.where}", "make room")))
    least = min(facts.disks, key=lambda disk: disk.free_bytes)
    yield Finding("disk", "ok", f"{least.where}: {least.free_bytes / 1e9:.1f} GB left")


NODE: tuple[Callable[[NodeFacts, float], Iterator[Finding]], ...] = (
    _joined, _link, _authority, _units, _keys, _clock, _join, _hub, _here, _linked, _disk
)  # fmt: skip


def _certificate(check: str, one: Lasting, now: float, tries: tuple[str, ...]) -> Finding:
    """By the measure of `canopy status`: late with a quarter of its life left."""
    who = f"{one.id}: " if one.id else ""
    life, over = one.ends - one.begins, now - one.begins
    if one.id and one.ends <= now:
        return Finding(check, "wrong", f"{who}{_until(one, now)}", tries)
    if one.doubt:
        return Finding(check, "wrong", one.doubt, tries)
    if life - over < LATE * life:
        text = f"{who}{_until(one, now)}; it should have been renewed at half of its life"
        return Finding(check, "wrong", text, tries)
    due = "" if over <= (0.5 + HALF_LIFE_SPREAD) * life else f"; its renewal is due since {age(over - life / 2)}"
    return Finding(check, "ok", f"{who}{_until(one, now)}{due}")


def _any_of(
    check: str, dialled: Sequence[Dialled], good: str, away: tuple[str, ...], strange: tuple[str, ...]
) -> Finding:
    """One that answers is enough, but no stranger may be among them."""
    faults = [f"{one.where}: {one.fault}" for one in dialled if one.fault]
    stranger = any(one.stranger for one in dialled)
    answers = [one.where for one in dialled if not one.fault]
    if stranger or not answers:
        return Finding(check, "wrong", listed(faults), strange if stranger else away)
    more = f"; {listed(faults)}" if faults else ""
    return Finding(check, "ok", f"{', '.join(answers)} {good}{more}")


def _start(facts: NodeFacts) -> str:
    return f"does the node run? the service manager, or: canopy join --start --dir {facts.folder}"


def _until(one: Lasting, now: float) -> str:
    return ends(one.ends, now)

"""Which workloads SPIRE should know, and what is to be done until it does; pure. `keeping` does it.

The file that names them (setting entries_file) is JSON: a list of {"path": "/cloud/cloudhub", "parent": "/agent/cloud",
"selectors": ["k8s:ns:canopy"], "dns": [], "ttl_seconds": 3600}; cloud units, the hub with its DNS names, and nodes that
use an agent of their own. With a file these paths are this unit's: what it does not list is removed. An operator keeps
one entry, that of spire_integration itself, which no file may name: without it nobody could mend the others.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass

import msgspec

from canopy.identity import ids
from canopy.identity.authority import Entry
from canopy.identity.ids import BadId, SpiffeId
from canopy.spire_integration.core import CLOUD_MEMBERS

MOST_FILE_BYTES = 4 << 20
MOST_ENTRIES = 20_000


class BadEntries(ValueError):
    """The file cannot be taken; the text says where."""


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    parent: str
    selectors: list[str]
    dns: list[str] = msgspec.field(default_factory=list)
    ttl_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written, and whose entries are to go."""

    puts: tuple[Entry, ...] = ()
    removes: tuple[SpiffeId, ...] = ()


def read(text: bytes, trust_domain: str) -> tuple[Entry, ...]:
    """The entries that a file lists. Raises BadEntries."""
    if len(text) > MOST_FILE_BYTES:
        raise BadEntries(f"{len(text)} bytes: at most {MOST_FILE_BYTES}")
    try:
        listed = msgspec.json.decode(text, type=list[_Listed])
        found = [_entry(one, trust_domain) for one in listed]
    except (msgspec.MsgspecError, BadId) as e:
        raise BadEntries(str(e)) from None
    if len(found) > MOST_ENTRIES or len({entry.id for entry in found}) < len(found):
        raise BadEntries(f"{len(found)} entries: at most {MOST_ENTRIES}, and each path once")
    return tuple(found)


def _entry(listed: _Listed, trust_domain: str) -> Entry:
    entry = Entry(
        SpiffeId(trust_domain, listed.path),
        SpiffeId(trust_domain, listed.parent),
        tuple(listed.selectors),
        tuple(listed.dns),
        listed.ttl_seconds,
    )
    if not ours(entry.id, trust_domain):
        raise BadEntries(f"{listed.path}: name /hub, /cloud/UNIT (not spire_integration) or /node/NAME")
    if not entry.selectors or not listed.parent:
        raise BadEntries(f"{listed.path}: name its agent (parent) and at least one selector")
    if entry.dns and entry.id != ids.hub(trust_domain):
        raise BadEntries(f"{listed.path}: only the hub has DNS names; a client's would be taken for its user")
    return entry


def ours(id: SpiffeId, trust_domain: str) -> bool:
    """Whether an entry of this name is of those that are kept here."""
    member = ids.member(trust_domain, id)
    return member is not None and (member.kind != "cloud" or member.name in CLOUD_MEMBERS)


def plan(wanted: Iterable[Entry], found: Iterable[Entry], revoked: Container[str], trust_domain: str) -> Plan:
    """`found` is what the authority holds; a revoked node's entry goes, so that no agent gets it a certificate."""
    want = {entry.id: entry for entry in wanted if _name(entry.id, trust_domain) not in revoked}
    have = {entry.id: entry for entry in found if ours(entry.id, trust_domain)}
    puts = tuple(entry for id, entry in want.items() if id not in have or not same(have[id], entry))
    return Plan(puts, tuple(id for id in have if id not in want))


def same(one: Entry, other: Entry) -> bool:
    """Whether both say the same; neither order counts."""
    return _sense(one) == _sense(other)


def _sense(entry: Entry) -> tuple[object, ...]:
    return entry.id, entry.parent, sorted(entry.selectors), sorted(entry.dns), entry.ttl_seconds


def _name(id: SpiffeId, trust_domain: str) -> str:
    member = ids.member(trust_domain, id)
    return member.name if member is not None and member.kind == "node" else ""

"""One replica's view of TWINS: for each node its set, and stamp and sequence of each subject. No states, no I/O.

`records` keeps it in step with the stream. A purge is delivered to nobody, so the view may hold too much: whoever must
know exactly reads the node's records and gives them to `refresh`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from canopy.contracts.wire import Name, StateEntry
from canopy.sync.sets import HashedSet
from canopy.sync.up import Stamp, Stored

NO_STAMP: Stamp = (-1, -1)
EMPTY_HASH = HashedSet[StateEntry]().hash


@dataclass(slots=True)
class _Node:
    entries: HashedSet[StateEntry] = field(default_factory=lambda: HashedSet[StateEntry]())
    rest: dict[Name, tuple[Stamp, int]] = field(default_factory=dict)


class View:
    """`caught_up` is False from a reset until all that the stream holds has come."""

    def __init__(self) -> None:
        self.caught_up = False
        self._nodes: dict[str, _Node] = {}

    def reset(self) -> None:
        """The stream is read from the beginning."""
        self.caught_up = False
        self._nodes.clear()

    def get(self, node: str, key: Name) -> Stored | None:
        found = self._nodes.get(node)
        entry = found.entries.get(key) if found else None
        return Stored(entry, *found.rest[key]) if found and entry else None

    def put(self, node: str, record: Stored) -> bool:
        """Take a record, unless a later one is here already; False then."""
        known = self.get(node, record.entry.key)
        if known is not None and known.seq > record.seq:
            return False
        if known == record:  # our own write, come back by the stream
            return True
        here = self._nodes.get(node) or self._nodes.setdefault(node, _Node())
        here.entries.put(record.entry)
        here.rest[record.entry.key] = (record.stamp, record.seq)
        return True

    def drop(self, node: str, key: Name, upto: int) -> None:
        """Forget a record that was purged up to and with sequence `upto`."""
        known = self.get(node, key)
        if known is not None and known.seq <= upto:
            here = self._nodes[node]
            here.entries.drop(key)
            del here.rest[key]
            if not here.rest:
                del self._nodes[node]

    def hash(self, node: str) -> str:
        """The hash of the node's set; that of the empty one if nothing is known of it."""
        found = self._nodes.get(node)
        return found.entries.hash if found else EMPTY_HASH

    def sequences(self, node: str) -> dict[Name, int]:
        """The sequence of each record of a node, to be given to `refresh` with what was read after."""
        found = self._nodes.get(node)
        return {key: seq for key, (_, seq) in found.rest.items()} if found else {}

    def stamps(self, node: str) -> list[Stamp]:
        """The stamps of a node's records (RULES 13)."""
        found = self._nodes.get(node)
        return [stamp for stamp, _ in found.rest.values()] if found else []

    def later(self, node: str, stamps: Mapping[Name, Stamp]) -> list[Name]:
        """The devices of a node of which this view knows a later record than that with the given stamp."""
        found = self._nodes.get(node)
        return [key for key, (stamp, _) in found.rest.items() if stamps.get(key, NO_STAMP) < stamp] if found else []

    def refresh(self, node: str, before: Mapping[Name, int], records: Iterable[Stored]) -> None:
        """Take what was read of a node. What was known `before` the reading, and did not come, has been purged."""
        read = {r.entry.key: r for r in records}
        for key, seq in before.items():
            if key not in read:
                self.drop(node, key, seq)
        for record in read.values():
            self.put(node, record)

    @property
    def counts(self) -> tuple[int, int]:
        """Nodes and records."""
        return len(self._nodes), sum(len(n.rest) for n in self._nodes.values())

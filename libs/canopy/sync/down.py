"""The sync downward (RULES 1-9, 12): what should be, from a controller's set to a follower's.

`answer` is the owner's side, stateless. `Follower` is the other one: MetaManager follows the cloud, and every reader
on a node follows MetaManager, by the same code. A follower judges a message first (`judge`, which changes nothing);
the shell stores the Change in one transaction, and then the follower takes it (`commit`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from canopy.contracts.wire import AsOf, Entry, Key, PageAnswer, PageAsk, Push, Put
from canopy.sync.sets import HashedSet

PAGE_ENTRIES = 500
PAGE_BYTES = 200 * 1024
KEY_BYTES = 32 * 1024
"""The most that the keys of one ask weigh: its answer may have to delete them all, beside PAGE_BYTES of puts."""
_FIRST: Key = ("", "", "")


def older(new: AsOf, mine: AsOf | None) -> bool:
    """True if `new` may not follow `mine`: a lower epoch, or older in any one kind (RULES 1, 12)."""
    if mine is None or new.epoch > mine.epoch:
        return False
    return new.epoch < mine.epoch or any(new.revisions.get(k, 0) < v for k, v in mine.revisions.items())


class Wanted:
    """The set that a node should have, as one replica sees it: its puts by key, sorted, and its hash."""

    def __init__(self, puts: Iterable[Put]) -> None:
        held = {p.entry.key: p for p in puts}
        self._entries: HashedSet[Entry] = HashedSet(p.entry for p in held.values())
        self._load: Callable[[Key], Put] = held.__getitem__

    @classmethod
    def over(cls, entries: HashedSet[Entry], load: Callable[[Key], Put]) -> "Wanted":
        """A set that is kept elsewhere; `load` is asked only for the objects that a page sends."""
        self = cls(())
        self._entries, self._load = entries, load
        return self

    @property
    def hash(self) -> str:
        return self._entries.hash

    def answer(self, ask: PageAsk, as_of: AsOf, cluster: str = "", most_bytes: int = PAGE_BYTES) -> PageAnswer:
        """One page (RULES 5): what to put and to delete between the asked start and `next`."""
        if ask.hash is not None and ask.hash == self.hash:
            return PageAnswer(as_of=as_of, hash=self.hash, cluster=cluster)
        have = {e.key: e for e in ask.entries}
        inside, _ = self._entries.span(ask.start or _FIRST, ask.end)
        differing = [e.key for e in inside if have.get(e.key) != e]
        fitting = self._fitting(differing, most_bytes)
        end: Key | None = differing[len(fitting)] if len(fitting) < len(differing) else ask.end
        return PageAnswer(
            as_of=as_of,
            hash=self.hash,
            puts=fitting,
            deletes=sorted(k for k in have if self._entries.get(k) is None and (end is None or k < end)),
            next=end,
            cluster=cluster,
        )

    def _fitting(self, keys: list[Key], most_bytes: int) -> list[Put]:
        """The puts of as many of `keys` as one body holds; at least one, so that a page always goes on."""
        puts, size = list[Put](), 0
        for key in keys[:PAGE_ENTRIES]:
            put = self._load(key)
            size += _weight(put)
            if puts and size > most_bytes:
                break
            puts.append(put)
        return puts


def _first_of(entries: list[Entry], most_bytes: int) -> list[Entry]:
    """The first entries whose keys weigh at most `most_bytes`; at least one."""
    size = 0
    for i, entry in enumerate(entries):
        size += sum(map(len, entry.key)) + 12
        if i and size > most_bytes:
            return entries[:i]
    return entries


def _weight(put: Put) -> int:
    return len(put.body) + sum(map(len, put.entry.key)) + len(put.entry.uid) + 40


@dataclass(frozen=True, slots=True)
class Change:
    """What a message does to the follower: all of it is stored in one transaction."""

    puts: tuple[Put, ...]
    deletes: tuple[Key, ...]
    as_of: AsOf
    proven: AsOf | None
    equal: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a follower is. `cursor` is where the running pass goes on; None means that no pass runs."""

    as_of: AsOf | None = None
    proven: AsOf | None = None
    cursor: Key | None = _FIRST


class Follower:
    """The following end of a set: its entries, its mark, and what to ask next."""

    def __init__(self, entries: Iterable[Entry] = (), as_of: AsOf | None = None, proven: AsOf | None = None) -> None:
        self.entries: HashedSet[Entry] = HashedSet(entries)
        self.mark = Mark(as_of, proven)

    @property
    def proven(self) -> bool:
        """True while the set is known to equal its owner's: the only state in which others may read it (RULES 9)."""
        return self.mark.proven is not None and self.mark.proven == self.mark.as_of

    @property
    def passing(self) -> bool:
        """True while a pass runs: `ask` says what to send."""
        return self.mark.cursor is not None

    def begin(self) -> None:
        """Start a pass (after a reconnect, on the timer); a running one goes on."""
        if self.mark.cursor is None:
            self.mark = replace(self.mark, cursor=_FIRST)

    def ask(self, most: int = PAGE_ENTRIES) -> PageAsk:
        """The page to ask now."""
        start = self.mark.cursor or _FIRST
        entries, end = self.entries.span(start, most=most)
        fitting = _first_of(entries, KEY_BYTES)
        if len(fitting) < len(entries):
            entries, end = fitting, entries[len(fitting)].key
        return PageAsk(
            start=start,
            end=end,  # type: ignore[arg-type]
            entries=entries,
            hash=self.entries.hash if start == _FIRST else None,
        )

    def judge(self, message: PageAnswer | Push) -> Change | None:
        """What `message` changes; None if it is refused for being older (RULES 1-3). Changes nothing itself."""
        if message.as_of is None or older(message.as_of, self.mark.as_of):
            return None
        deletes = tuple(k for k in message.deletes if self.entries.get(k) is not None)
        equal = self.entries.hash_with((p.entry for p in message.puts), message.deletes) == message.hash
        return Change(
            puts=tuple(message.puts),
            deletes=deletes,
            as_of=message.as_of,
            proven=message.as_of if equal else self.mark.proven,
            equal=equal,
        )

    def commit(self, change: Change) -> None:
        """Take a stored change."""
        for key in change.deletes:
            self.entries.drop(key)
        for put in change.puts:
            self.entries.put(put.entry)
        self.mark = replace(self.mark, as_of=change.as_of, proven=change.proven)

    def after(self, message: PageAnswer | Push, change: Change | None) -> None:
        """Move the pass on (RULES 2, 7): call once for each message, behind commit."""
        cursor = self.mark.cursor
        if isinstance(message, Push):
            if change is not None and not change.equal and cursor is None:
                cursor = _FIRST
        elif change is not None:
            cursor = message.next or (None if change.equal else _FIRST)
        elif cursor is None:
            cursor = _FIRST
        self.mark = replace(self.mark, cursor=cursor)


def strip(obj: Mapping[str, object]) -> dict[str, object]:
    """What a node needs of a Kubernetes object, for its digest: no status, no managedFields, no resourceVersion.

    A write that changes nothing for the node (of the status, say) must not change the digest.
    """
    metadata = obj.get("metadata")
    kept = {k: v for k, v in obj.items() if k not in ("status", "metadata")}
    if isinstance(metadata, Mapping):
        kept["metadata"] = {k: v for k, v in metadata.items() if k not in ("managedFields", "resourceVersion")}
    return kept

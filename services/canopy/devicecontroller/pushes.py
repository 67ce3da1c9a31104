"""What the leader pushes: the changes of a node's set since the last push, cut to bodies that fit. Pure.

A push is an optimisation; the hash in it makes a node that missed something ask for a page.
"""

from collections.abc import Iterable, Iterator

from canopy.contracts.wire import AsOf, Key, Push, Put
from canopy.devicecontroller.placement import Placement, Touched
from canopy.sync.down import PAGE_BYTES

MOST_PUSHES = 4
"""Beyond this many bodies for one node the page is as good: one push without content makes the node ask for it."""
KEY_BYTES = 40
"""What JSON puts around a key or an entry, at most."""


class Pending:
    """Touched keys by node, until they are pushed."""

    def __init__(self) -> None:
        self._keys: dict[str, set[Key]] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, touched: Iterable[Touched]) -> None:
        for node, key in touched:
            self._keys.setdefault(node, set()).add(key)

    def take(self) -> tuple[str, set[Key]]:
        """The node that waits longest, and its keys. Raises KeyError when nobody waits."""
        if not self._keys:
            raise KeyError("nobody waits")
        node = next(iter(self._keys))
        return node, self._keys.pop(node)


def pushes(
    placement: Placement, node: str, keys: Iterable[Key], as_of: AsOf, cluster: str, most_bytes: int = PAGE_BYTES
) -> list[Push]:
    """The pushes that bring `node` from before these changes to its set of now; all bear the hash of the whole.

    One without content (no keys, or too many) makes a node whose hash differs ask for a page.
    """
    entries = placement.set_of(node)
    deletes = sorted(k for k in keys if entries.get(k) is None)
    puts = [placement.load(k) for k in sorted(keys) if entries.get(k) is not None]
    cut = list(_cut(deletes, puts, most_bytes))
    if not 0 < len(cut) <= MOST_PUSHES:
        cut = [([], [])]
    return [Push(as_of=as_of, hash=entries.hash, deletes=d, puts=p, cluster=cluster) for d, p in cut]


def _cut(deletes: list[Key], puts: list[Put], most_bytes: int) -> Iterator[tuple[list[Key], list[Put]]]:
    """Groups of at most `most_bytes` (one object more than that makes a group of its own), deletes first."""
    size, some_deletes, some_puts = 0, list[Key](), list[Put]()
    items: list[Key | Put] = [*deletes, *puts]
    for item in items:
        weight = _weight(item)
        if size and size + weight > most_bytes:
            yield some_deletes, some_puts
            size, some_deletes, some_puts = 0, [], []
        size += weight
        if isinstance(item, Put):
            some_puts.append(item)
        else:
            some_deletes.append(item)
    if size:
        yield some_deletes, some_puts


def _weight(item: Key | Put) -> int:
    if isinstance(item, Put):
        return len(item.body) + _weight(item.entry.key) + len(item.entry.uid) + len(item.entry.digest)
    return sum(map(len, item)) + KEY_BYTES

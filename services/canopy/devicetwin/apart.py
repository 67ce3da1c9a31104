"""A batch that cannot be committed because of a bug is committed in halves, until what fails stands alone.

`handlers` calls it. A disk that is full or a file that is damaged is no bug of one event: that comes out, and the batch
is read again.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from canopy.store.errors import StoreError

E = TypeVar("E")
TRIES = 3
"""Of an event alone, before it is set aside."""
STORAGE = (sqlite3.OperationalError, StoreError, OSError, MemoryError)


async def committed(
    events: Sequence[E],
    commit: Callable[[Sequence[E]], Awaitable[None]],
    set_aside: Callable[[E, Exception], Awaitable[None]],
) -> None:
    """Commit all of them, in order, in as few parts as it takes; what fails alone is set aside. Raises STORAGE."""
    waiting = [events]
    while waiting:
        part = waiting.pop()
        bug = await _tried(part, commit)
        if bug is None:
            continue
        if len(part) > 1:
            half = len(part) // 2
            waiting += [part[half:], part[:half]]
        else:
            await set_aside(part[0], bug)


async def _tried(part: Sequence[E], commit: Callable[[Sequence[E]], Awaitable[None]]) -> Exception | None:
    for left in reversed(range(TRIES if len(part) == 1 else 1)):
        try:
            await commit(part)
            return None
        except STORAGE:
            raise
        except Exception as bug:
            if not left:
                return bug
    return None

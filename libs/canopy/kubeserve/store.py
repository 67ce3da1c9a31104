"""The objects: in memory to read, in SQLite to keep. The verbs stage changes; they are committed in groups.

A change is in memory at once (so that the next write sees it), but readers and watchers learn of it only once it is
on the disk: `settled` and `committed` wait for that. A commit that fails takes back everything not yet on the disk.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from canopy.kubeserve import objects, rows
from canopy.kubeserve.history import History
from canopy.kubeserve.kinds import Kind
from canopy.kubeserve.state import State
from canopy.kubeserve.status import Json, broken
from canopy.kubeserve.stored import Change, Stored, encode
from canopy.store.sqlite import Database


@dataclass(slots=True)
class _Batch:
    done: asyncio.Future[None]
    changes: list[Change] = field(default_factory=list)


class Store:
    """One database's objects. `run` must be going for anything to be committed."""

    def __init__(self, database: Database, state: State, history: History) -> None:
        self._database = database
        self.state = state
        self.history = history
        self.on_commit: Callable[[list[Change]], None] = lambda changes: None
        self._open = self._new_batch()
        self._committing: _Batch | None = None
        self._staged = asyncio.Event()

    @classmethod
    async def load(cls, database: Database, history_limit_events: int) -> "Store":
        revision, found = await database.read(rows.load)
        return cls(database, State(revision, found), History(revision, history_limit_events))

    def _new_batch(self) -> _Batch:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda f: f.cancelled() or f.exception())  # nobody may be waiting
        return _Batch(future)

    def put(self, kind: Kind, old: Stored | None, body: Json) -> Stored:
        """Stage an object's new form; the same one again changes nothing and gives the old."""
        if old is not None and _same(old, body):
            return old
        new = encode(kind.id, objects.stamped(body, self.state.revision + 1))
        self._stage(Change("MODIFIED" if old else "ADDED", new, old))
        return new

    def remove(self, old: Stored) -> Stored:
        """Stage a deletion; gives the last form."""
        new = encode(old.kind, objects.stamped(old.json(), self.state.revision + 1))
        self._stage(Change("DELETED", new, old))
        return new

    def _stage(self, change: Change) -> None:
        self.state.apply(change)
        self._open.changes.append(change)
        self._staged.set()

    async def committed(self) -> None:
        """Return when all that was staged until now is on the disk. Raises InternalError if it could not be."""
        if self._open.changes:
            await asyncio.shield(self._open.done)
        elif self._committing is not None:
            await asyncio.shield(self._committing.done)

    async def settled(self) -> None:
        """Before a read: what memory shows is then on the disk."""
        await self.committed()

    async def run(self) -> None:
        """Commit group after group until cancelled; what is staged by then is still committed."""
        while True:
            try:
                await self._staged.wait()
            finally:
                await asyncio.shield(self._commit())

    async def _commit(self) -> None:
        self._staged.clear()
        batch, self._open = self._open, self._new_batch()
        if not batch.changes:
            return
        self._committing = batch
        try:
            await self._database.run(lambda c: rows.write(c, batch.changes))
        except Exception as error:
            await self._take_back(batch, error)
        else:
            self.history.publish(batch.changes)
            batch.done.set_result(None)
            self.on_commit(batch.changes)
        finally:
            self._committing = None

    async def _take_back(self, batch: _Batch, error: Exception) -> None:
        later, self._open = self._open, self._new_batch()
        try:
            self.state = State(*await self._database.read(rows.load))
        finally:
            for failed in (batch, later):
                failed.done.set_exception(broken(f"the change could not be stored: {error}"))


def _same(old: Stored, body: Json) -> bool:
    return objects.stamped(body, old.revision) == old.json()

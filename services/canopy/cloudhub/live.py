"""Live twins and presence in the cache: what may be lost, is told late, and is written anew from TWINS (RULES 22).

Handlers tell it and go on; nothing of the link waits for the cache. One worker has a node at a time, so the newest
record of a device is written last. `livehash:{node}` says of which set the hash `live:{node}` is.
"""

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.cloudhub.counts import Counts
from canopy.cloudhub.records import Records, Written
from canopy.contracts.wire import Name, Presence, TwinRecord, encode
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock
from canopy.runtime.logs import OncePer
from canopy.store.cache import Cache, CacheUnavailable
from canopy.sync.sets import HashedSet

log = logging.getLogger("canopy.cloudhub")
KEPT_SECONDS = 86_400.0
PRESENCE = "presence"
PRESENCE_KEPT_MS = 7 * 86_400_000
WORKERS = 8
MEND_SECONDS = 2.0
MOST_SINGLE_READS = 16
MOST_WAITING = 20_000
"""Records that wait for the cache, of all nodes; beyond, a node's are read anew from TWINS when its turn comes."""
_RECORD = msgspec.json.Decoder(TwinRecord)
_PRESENCE = msgspec.json.Decoder(Presence)


@dataclass(slots=True)
class _Job:
    """What is to be done for one node."""

    writes: dict[Name, Written] = field(default_factory=dict)
    drops: set[Name] = field(default_factory=set)
    presence: bytes = b""
    check: bool = False
    anew: bool = False


class Live:
    """Call `run` beside it: until then, jobs wait."""

    def __init__(
        self,
        cache: Cache,
        records: Records,
        clock: Clock,
        counts: Counts,
        once_per: OncePer,
        rng: random.Random,
        refresh_seconds: float = 600.0,
    ) -> None:
        self._cache, self._records, self._clock, self._counts = cache, records, clock, counts
        self._once_per, self._rng, self._refresh_seconds = once_per, rng, refresh_seconds
        self._jobs: dict[str, _Job] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._refreshed: dict[str, float] = {}
        self._mended: dict[str, float] = {}
        self._waiting = 0

    # --- told by handlers -------------------------------------------------------------------------------------------
    def wrote(self, node: str, written: Mapping[Name, Written]) -> None:
        """These records are new in TWINS."""
        if not written:
            return
        job = self._job(node)
        if self._waiting + len(written) > MOST_WAITING:
            job.anew = True
        if not job.anew:
            for key, record in written.items():
                self._add(job, key, record)

    def _add(self, job: _Job, key: Name, record: Written) -> None:
        old = job.writes.get(key)
        if old is None or old.seq < record.seq:
            self._waiting += old is None
            job.writes[key] = record
            job.drops.discard(key)

    def purged(self, node: str, names: Iterable[Name]) -> None:
        """These records are gone from TWINS."""
        job = self._job(node)
        for name in names:
            job.drops.add(name)
            self._waiting -= job.writes.pop(name, None) is not None

    def heard(self, presence: Presence) -> None:
        """The node beats: show it, and look whether its live twins are those of TWINS."""
        job = self._job(presence.node)
        job.presence, job.check = encode(presence), True
        now = self._clock.monotonic()
        since = self._refreshed.setdefault(presence.node, now - self._rng.uniform(0, self._refresh_seconds))
        if now - since >= self._refresh_seconds:
            self._refreshed[presence.node] = now
            job.anew = True

    def _job(self, node: str) -> _Job:
        if node not in self._queued and node not in self._busy:
            self._queued.add(node)
            self._queue.put_nowait(node)
        return self._jobs.setdefault(node, _Job())

    # --- the workers ------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        backoff = Backoff(0.1, 5.0, self._rng)
        while True:
            node = await self._queue.get()
            self._queued.discard(node)
            self._busy.add(node)
            try:
                failed = not await self._once(node)
            finally:
                self._busy.discard(node)
            if failed:
                await self._clock.sleep(backoff.next_seconds())
            else:
                backoff.reset()
            if node in self._jobs:
                self._job(node)

    async def _once(self, node: str) -> bool:
        job = self._jobs.pop(node, None)
        if job is None:
            return True
        self._waiting -= len(job.writes)
        try:
            await self._carry_out(node, job)
        except (CacheUnavailable, AskFailed, StreamError, TimeoutError) as e:
            self._counts.cache_failures.add()
            if self._once_per("cache"):
                log.warning("live twins are not written: %s; they will be written anew", e)
            again = self._jobs.setdefault(node, _Job())
            again.anew, again.presence = True, again.presence or job.presence
            return False
        except Exception:
            log.exception("writing the live twins of %s", node)
        return True

    async def _carry_out(self, node: str, job: _Job) -> None:
        if job.presence:
            await self._cache.hset(PRESENCE, {node: job.presence})
        was = await self._cache.get(f"livehash:{node}")
        if job.anew or was is None or self._differs(node, job, was):
            return await self._write_anew(node)
        if job.drops:
            await self._cache.hdel(f"live:{node}", [field_of(k) for k in job.drops])
        if job.writes:
            fields = {field_of(k): w.data for k, w in job.writes.items()}
            await self._cache.hset(f"live:{node}", fields, KEPT_SECONDS)
        if job.drops or job.writes:
            await self._set_hash(node, self._records.view.hash(node))

    def _differs(self, node: str, job: _Job, was: bytes) -> bool:
        """Looked at only when nothing waits to be written: the view is ahead of the cache until then."""
        view = self._records.view
        return job.check and not job.writes and not job.drops and view.caught_up and was.decode() != view.hash(node)

    async def _write_anew(self, node: str) -> None:
        found = await self._records.of(node)
        fields = {field_of(key): data for key, (_, data) in found.items()}
        await self._cache.replace_hash(f"live:{node}", fields, KEPT_SECONDS)
        await self._set_hash(node, HashedSet(record.entry for record, _ in found.values()).hash)
        self._counts.live_anew.add()

    async def _set_hash(self, node: str, value: str) -> None:
        await self._cache.set(f"livehash:{node}", value.encode(), KEPT_SECONDS)

    # --- read by the API --------------------------------------------------------------------------------------------
    async def of(self, node: str) -> dict[Name, TwinRecord]:
        """The live twins of a node; from TWINS what the cache has not, or has older than this replica knows: another
        replica may write late, or into a memory of its own. Raises AskFailed, StreamError."""
        found, view = await self._cached(node), self._records.view
        if found is None or not view.caught_up:
            return await self._stored(node)
        late = view.later(node, {key: (record.session, record.n) for key, record in found.items()})
        if not late:
            return found
        self._mend(node)
        if len(late) > MOST_SINGLE_READS:
            return await self._stored(node)
        newer = await asyncio.gather(*(self._records.one(node, key) for key in late))
        if not all(newer):  # purged, and the view has not heard of it
            return await self._stored(node)
        return found | _decoded(filter(None, newer))

    async def _cached(self, node: str) -> dict[Name, TwinRecord] | None:
        try:
            if await self._cache.get(f"livehash:{node}") is not None:
                return _decoded((await self._cache.hgetall(f"live:{node}")).values())
        except CacheUnavailable:
            self._counts.cache_failures.add()
        return None

    async def _stored(self, node: str) -> dict[Name, TwinRecord]:
        return _decoded(data for _, data in (await self._records.of(node)).values())

    def _mend(self, node: str) -> None:
        """Write the live twins anew, unless they are just being written, or were not long ago."""
        now = self._clock.monotonic()
        if node in self._jobs or node in self._busy or now - self._mended.get(node, -MEND_SECONDS) < MEND_SECONDS:
            return
        self._mended[node] = now
        self._job(node).anew = True

    async def presence(self, node: str) -> Presence | None:
        """One node as it was last heard; None also while the cache does not answer."""
        try:
            found = await self._cache.hget(PRESENCE, node)
            return _PRESENCE.decode(found) if found else None
        except (CacheUnavailable, msgspec.DecodeError):
            self._counts.cache_failures.add()
            return None

    async def presences(self, now_ms: int) -> dict[str, Presence]:
        """Nodes as they were last heard; empty while the cache does not answer."""
        try:
            found = await self._cache.hgetall(PRESENCE)
            presences = {node: _PRESENCE.decode(data) for node, data in found.items()}
            gone = [node for node, p in presences.items() if p.at < now_ms - PRESENCE_KEPT_MS]
            await self._cache.hdel(PRESENCE, gone)
        except (CacheUnavailable, msgspec.DecodeError):
            self._counts.cache_failures.add()
            return {}
        return presences


def field_of(key: Name) -> str:
    """The field of a device in `live:{node}`."""
    return "/".join(key)


def _decoded(bodies: Iterable[bytes]) -> dict[Name, TwinRecord]:
    found = {}
    for body in bodies:
        try:
            record = _RECORD.decode(body)
        except msgspec.DecodeError:
            continue
        found[record.namespace, record.name] = record
    return found

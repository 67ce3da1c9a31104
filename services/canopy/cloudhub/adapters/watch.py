"""`/api/v1/watch`: live twins as server-sent events, to who may see the Devices. `http` opens it.

Events: `twin` (a LiveTwin), `synced` (all that there was has been said; again after each reading of the stream from its
beginning), and, as the last one, `slow`, `closed` or `error` with `{"error": ...}`. A comment every 15 s at least.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import msgspec

from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.cloudhub.adapters.bodies import live_twin
from canopy.cloudhub.adapters.fleet import Fleet, Where, key_of
from canopy.cloudhub.adapters.problem import Problem, problem_of
from canopy.cloudhub.watching import TooManyWatchers, Watch, Watchers
from canopy.contracts.devices import Device
from canopy.contracts.wire import Name, TwinRecord
from canopy.kube.api import Kube
from canopy.kube.errors import KubeError
from canopy.runtime.clock import Clock

HEARTBEAT_SECONDS = 15.0
CHECK_SECONDS = 60.0
_RECORD = msgspec.json.Decoder(TwinRecord)
_ENDS = {
    "slow": Problem(429, "you read too slowly: events were dropped; watch again"),
    "closed": Problem(503, "this CloudHub ends; watch again"),
}


class Scope:
    """What one caller may see: the Devices that Kubernetes shows him, looked up again every minute."""

    def __init__(self, fleet: Fleet, kube: Kube, where: Where, clock: Clock) -> None:
        self._fleet, self._kube, self.where, self._clock = fleet, kube, where, clock
        self._looked = clock.monotonic()
        self._placed: dict[Name, tuple[str, str]] = {}
        self._unknown: set[Name] = set()

    async def look(self) -> list[Device]:
        """Look up the Devices. Raises KubeError, BadToken."""
        self._looked = self._clock.monotonic()
        devices = await self._fleet.listed(self._kube, self.where)
        self._placed = {key_of(d): (d.spec.node_name, d.metadata.uid) for d in devices}
        self._unknown.clear()
        return devices

    async def still_may(self) -> None:
        """Look again if a minute has passed. Raises KubeError if he may not any more."""
        if self._clock.monotonic() - self._looked >= CHECK_SECONDS:
            await self.look()

    async def state(self) -> list[TwinRecord]:
        """Look up the Devices, and give their live twins. Raises KubeError, AskFailed, StreamError."""
        twins = await self._fleet.twins(await self.look())
        return [twins[key] for key in sorted(twins)]

    async def shows(self, record: TwinRecord) -> bool:
        """Whether the record is of a Device that he sees; a Device that is new to us is looked up, once a minute."""
        key = (record.namespace, record.name)
        if self._placed.get(key) != (record.node, record.uid) and key not in self._unknown:
            self._unknown.add(key)
            await self._look_at(key)
        return self._placed.get(key) == (record.node, record.uid)

    async def _look_at(self, key: Name) -> None:
        try:
            (device,) = await self._fleet.listed(self._kube, Where(*key))
        except KubeError:
            return
        self._placed[key] = (device.spec.node_name, device.metadata.uid)


async def events(scope: Scope, watchers: Watchers) -> AsyncIterator[bytes]:
    """The body of the answer. The watch is open before the state is read, so that nothing falls in between."""
    try:
        with watchers.watch(scope.where.covers) as watch:
            for piece in _synced(await scope.state()):
                yield piece
            async for piece in _changes(scope, watch):
                yield piece
    except (TooManyWatchers, KubeError, AskFailed, StreamError, TimeoutError) as e:
        problem = Problem(503, str(e)) if isinstance(e, TooManyWatchers) else problem_of(e)
        yield event("error", problem.body())


async def _changes(scope: Scope, watch: Watch) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                change = await watch.next()
        except TimeoutError:
            await scope.still_may()
            yield b": still here\n\n"
            continue
        if change.kind in _ENDS:
            yield event(change.kind, _ENDS[change.kind].body())
            return
        await scope.still_may()
        async for piece in _told(scope, change.kind, change.data):
            yield piece


async def _told(scope: Scope, kind: str, data: bytes) -> AsyncIterator[bytes]:
    if kind == "again":
        for piece in _synced(await scope.state()):
            yield piece
        return
    record = _RECORD.decode(data)
    if await scope.shows(record):
        yield _twin(record)


def _synced(records: list[TwinRecord]) -> list[bytes]:
    return [*(_twin(r) for r in records), event("synced", {})]


def _twin(record: TwinRecord) -> bytes:
    return event("twin", live_twin(record).model_dump())


def event(kind: str, body: object) -> bytes:
    """One server-sent event."""
    return f"event: {kind}\ndata: {json.dumps(body, ensure_ascii=False)}\n\n".encode()

"""The stream DEADLETTERS: what units could not handle because of a bug, checked, bounded, kept for people to see.

Nodes and the cloud's units ask until it is stored; the same letter again takes the place of the former one. A node may
fill its own share and no more. What a bound drops is counted.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from canopy.bus import Bus, Place
from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.bus.streams import Value
from canopy.contracts import catalogue as c
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY, SPIRE_INTEGRATION
from canopy.contracts.wire import DeadLetter, LetterBatch, Verdict, encode
from canopy.runtime.clock import Clock
from canopy.runtime.metrics import Counter, Metrics

log = logging.getLogger("canopy.cloudhub")
CLOUD = "cloud"
"""What stands for the node in the address of a cloud unit's letter: no edge unit has such a unit's name."""
MOST_BATCH = 20
MOST_OF_ONE = 100
"""Letters of one node, or of the cloud's units."""
MOST_LETTERS = 2_000
MOST_STREAM_BYTES = 64 << 20
MOST_AGE_SECONDS = 30 * 86_400
EXPIRE_SECONDS = 600.0
MAX_BODY_CHARACTERS = 8_192
MAX_TRACEBACK_CHARACTERS = 8_192
MAX_WORDS = 512
MAX_NUMBER = 2**53
RETRY_SECONDS = 5.0
BOUNDS: dict[str, Any] = {
    "discard": "old",
    "max_msgs": MOST_LETTERS,
    "max_bytes": MOST_STREAM_BYTES,
    "max_msg_size": 64 << 10,
    "max_age": (MOST_AGE_SECONDS + 86_400) * 10**9,
}
"""Of the stream; ours are narrower, so that what goes is counted."""
_ID, _BASE64, _TRACEPARENT = re.compile(r"[0-9a-f]{16}"), re.compile(r"[A-Za-z0-9+/=]*"), re.compile(r"[0-9a-f,-]*")
_LETTER = msgspec.json.Decoder(DeadLetter)


class Stream(Protocol):
    """What is asked of `canopy.bus.streams.LastValues`."""

    async def put(self, address: str, data: bytes, expect: int | None, trace: dict[str, str] | None = None) -> int: ...

    async def purge(self, address: str, upto: int) -> None: ...

    async def under(self, wild: str) -> list[Value]: ...

    async def addresses(self, wild: str) -> tuple[list[str], int]: ...


@dataclass(frozen=True, slots=True)
class Which:
    """Letters that are meant; empty means all. `since` in ms: last failed then or later."""

    id: str = ""
    unit: str = ""
    node: str = ""
    since: int = 0

    def wild(self) -> str:
        """Raises BadToken."""
        given = {"id": self.id, "unit": self.unit, "node": self.node}
        return c.DEADLETTERS.wild(**{k: v for k, v in given.items() if v})


class Letters:
    """`open` serves; `run` lets go of what is old, until cancelled."""

    def __init__(self, bus: Bus, stream: Stream, clock: Clock, metrics: Metrics) -> None:
        self._bus, self._stream, self._clock = bus, stream, clock
        self._stored: Counter = metrics.counter("canopy_cloudhub_letters_total")
        self._dropped: Counter = metrics.counter("canopy_cloudhub_letters_dropped_total")

    async def open(self) -> None:
        await self._bus.serve(c.LETTERS, self.of_node)
        await self._bus.serve(c.CLOUD_LETTERS, self.of_unit)

    async def run(self) -> None:
        while True:
            await self._clock.sleep(EXPIRE_SECONDS)
            try:
                await self.expire()
            except (AskFailed, StreamError, TimeoutError) as e:
                log.debug("dead letters: %s", e)

    # --- what comes ---------------------------------------------------------------------------------------------------
    async def of_node(self, batch: LetterBatch, place: Place[LetterBatch]) -> Verdict:
        """A node's: it may say what it likes, but not which node it is."""
        return await self._take(batch, place["node"], (*EDGE_UNITS, EDGEIDENTITY))

    async def of_unit(self, batch: LetterBatch, place: Place[LetterBatch]) -> Verdict:
        return await self._take(batch, "", (*CLOUD_UNITS, SPIRE_INTEGRATION))

    async def _take(self, batch: LetterBatch, node: str, units: tuple[str, ...]) -> Verdict:
        good = [a for one in batch.letters[:MOST_BATCH] if (a := acceptable(one, node, units)) is not None]
        self._dropped.add(len(batch.letters) - len(good), why="not acceptable")
        try:
            await self._store(good, node)
        except (AskFailed, StreamError, TimeoutError) as e:
            log.debug("dead letters: %s", e)
            return Verdict(verdict="busy", reason="the hub did not store them", retry_after_seconds=RETRY_SECONDS)
        self._dropped.add(min(max(0, batch.dropped), 1_000_000), why="by the unit")
        return Verdict()

    async def _store(self, letters: Iterable[DeadLetter], node: str) -> None:
        held, in_all = await self._stream.addresses(c.DEADLETTERS.wild(node=node or CLOUD))
        known = set(held)
        for letter in letters:
            address = address_of(letter)
            if address not in known:
                if len(known) >= MOST_OF_ONE:
                    self._dropped.add(why="too many of one")
                    continue
                known.add(address)
                in_all += 1
                self._dropped.add(float(in_all > MOST_LETTERS), why="too many in all")
            await self._stream.put(address, encode(letter), None)
            self._stored.add(plane="edge" if node else "cloud")

    # --- what people ask ----------------------------------------------------------------------------------------------
    async def find(self, which: Which) -> list[DeadLetter]:
        """The newest first. Raises BadToken, AskFailed, StreamError, TimeoutError."""
        found = [_LETTER.decode(value.data) for value in await self._stream.under(which.wild())]
        return sorted((f for f in found if f.last >= which.since), key=lambda f: (f.last, f.id), reverse=True)

    async def purge(self, which: Which) -> int:
        """How many there were. One that fails again comes again."""
        gone = [v for v in await self._stream.under(which.wild()) if _LETTER.decode(v.data).last >= which.since]
        for value in gone:
            await self._stream.purge(value.subject, value.seq)
        return len(gone)

    async def expire(self) -> None:
        """Let go of those that have not failed for long."""
        oldest = self._clock.now_ms() - MOST_AGE_SECONDS * 1000
        for value in await self._stream.under(c.DEADLETTERS.wild()):
            if _LETTER.decode(value.data).last < oldest:
                await self._stream.purge(value.subject, value.seq)
                self._dropped.add(why="too old")


def address_of(letter: DeadLetter) -> str:
    """Where the stream holds it."""
    return c.DEADLETTERS.at(node=letter.node or CLOUD, unit=letter.unit, id=letter.id)


def acceptable(letter: DeadLetter, node: str, units: tuple[str, ...]) -> DeadLetter | None:
    """A letter as it is kept: `node` is the subject's, words are cut, its id is also of the node; None: it is none."""
    numbers = (letter.body_bytes, letter.count, letter.first, letter.last)
    if letter.unit not in units or not _ID.fullmatch(letter.id) or not all(0 <= n < MAX_NUMBER for n in numbers):
        return None
    body = letter.body if len(letter.body) <= MAX_BODY_CHARACTERS and _BASE64.fullmatch(letter.body) else ""
    return replace(
        letter,
        id=blake2b(f"{node}/{letter.unit}/{letter.id}".encode(), digest_size=8).hexdigest(),
        node=node,
        source=letter.source[:MAX_WORDS],
        error=letter.error[:MAX_WORDS],
        text=letter.text[:MAX_WORDS],
        traceback=letter.traceback[-MAX_TRACEBACK_CHARACTERS:],
        body=body,
        trace=letter.trace[:MAX_WORDS] if _TRACEPARENT.fullmatch(letter.trace[:MAX_WORDS]) else "",
    )

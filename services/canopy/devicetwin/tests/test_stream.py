"""The position rules (RULES 28-32) against a stream that loses its tail, and the repeats of deltas."""

import itertools
import random

from canopy.bus.gateway import Incoming
from canopy.devicetwin.repeats import Repeats
from canopy.devicetwin.stream import Stream
from canopy.sync.ingest import Position, StreamNow


class FakeSource:
    """A stream in memory: (sequence, time). `reset` delivers from there; what is acknowledged goes."""

    def __init__(self, *messages: tuple[int, int], created: str = "c1", run: str = "r1") -> None:
        self.messages, self.created, self.run = list(messages), created, run
        self.resets: list[int] = []
        self._next = 0

    async def open(self, max_bytes: int) -> None:
        pass

    async def now(self) -> StreamNow:
        seqs = [s for s, _ in self.messages]
        return StreamNow(self.created, min(seqs, default=1), max(seqs, default=0), self.run)

    async def reset(self, start: int) -> None:
        self.resets.append(start)
        self._next = start

    async def next(self, wait_seconds: float) -> list[Incoming]:
        found = [Incoming("", b"", s, t, str(s)) for s, t in self.messages if s >= self._next]
        self._next = max([self._next, *(m.seq + 1 for m in found)])
        return found

    async def acknowledge(self, last: Incoming) -> None:
        self.messages = [m for m in self.messages if m[0] > last.seq]


class Shelf:
    """Where a position is kept."""

    def __init__(self) -> None:
        self.kept: list[Position] = []

    async def keep(self, position: Position) -> None:
        self.kept.append(position)


async def taken(stream: Stream) -> list[int]:
    """One turn: what is applied, by sequence; then it is stored and acknowledged."""
    arrived = await stream.next(0)
    fresh, position = stream.fresh(arrived)
    await stream.stored(arrived, position)
    return [m.seq for m in fresh]


async def test_a_new_stream_is_read_from_its_beginning() -> None:
    stream = Stream(FakeSource((1, 10), (2, 20)), Position(), 1, Shelf().keep)
    await stream.resume()
    assert await taken(stream) == [1, 2]
    assert stream.position == Position(2, "c1", "r1")


async def test_within_one_run_reading_goes_on_behind_the_position() -> None:
    source = FakeSource((1, 10), (2, 20), (3, 30))
    stream = Stream(source, Position(2, "c1", "r1"), 1, Shelf().keep)
    await stream.resume()
    assert source.resets == [3] and await taken(stream) == [3]


async def test_what_comes_twice_is_applied_once() -> None:
    source = FakeSource((1, 10), (2, 20))
    stream = Stream(source, Position(), 1, Shelf().keep)
    await stream.resume()
    first = await stream.next(0)
    assert [m.seq for m in stream.fresh(first)[0]] == [1, 2]
    assert stream.fresh(first)[0] == []


async def test_what_was_not_stored_is_read_again() -> None:
    source = FakeSource((1, 10), (2, 20))
    stream = Stream(source, Position(), 1, Shelf().keep)
    await stream.resume()
    stream.fresh(await stream.next(0))  # the commit failed
    await stream.resume()
    assert await taken(stream) == [1, 2]


async def test_behind_a_gate_the_position_is_taken_by_sequence_and_stored_before_that_is_said() -> None:
    """The stream came back shorter, and nobody was let in since: its end is the old end (RULES 29)."""
    shelf, source = Shelf(), FakeSource((5, 50), (6, 60), run="r2")
    stream = Stream(source, Position(9, "c1", "r1"), 1, shelf.keep)
    assert stream.taken == ""
    await stream.resume()
    assert stream.taken == "r2" and shelf.kept == [Position(6, "c1", "r2")] and source.resets == [7]
    source.messages.append((7, 40))
    assert await taken(stream) == [7]


async def test_a_unit_that_starts_again_behind_an_open_gate_reads_on_from_the_position_that_it_took() -> None:
    """Devices were let in, and three reports came before anything was applied."""
    shelf, source = Shelf(), FakeSource((6, 60), run="r2")
    await Stream(source, Position(9, "c1", "r1"), 1, shelf.keep).resume()
    source.messages += [(7, 100), (8, 110), (9, 120)]
    again = Stream(source, shelf.kept[-1], 1, shelf.keep)
    await again.resume()
    assert await taken(again) == [7, 8, 9] and len(shelf.kept) == 1


async def test_another_stream_begins_at_nothing() -> None:
    stream = Stream(FakeSource((1, 10), created="c2", run="r2"), Position(9, "c1", "r1"), 1, Shelf().keep)
    await stream.resume()
    assert await taken(stream) == [1]


async def test_a_message_of_qos_0_waits_for_what_the_stream_holds() -> None:
    source = FakeSource((1, 10), (2, 20))
    stream = Stream(source, Position(), 1, Shelf().keep)
    await stream.resume()
    assert [m.seq for m in await stream.catch_up([])] == [1, 2]


def test_a_delta_is_repeated_ever_more_seldom_until_it_agrees() -> None:
    repeats, name = Repeats(random.Random(1), 1, 60), ("default", "d1")
    repeats.note(name, {"t": "5"}, 0.0)
    times = []
    now = 0.0
    while now < 400:
        now = repeats.next_at() or now
        times += [now for _ in repeats.take(now)]
        repeats.note(name, {"t": "5"}, now)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert 0.5 <= times[0] <= 1 and max(gaps) <= 60 and gaps[-1] >= 30
    assert len(times) < 20
    repeats.note(name, {"t": "6"}, now)
    assert (repeats.next_at() or 0) <= now + 1
    repeats.note(name, {}, now)
    assert repeats.take(now + 1000) == []

"""The position rules (RULES 28-32) as walks over the real `resume`: a server that dies, loses its tail in a power cut,
or comes back as another stream; a reader that dies. Whatever had its PUBACK and is still stored is applied, in order.

Each mutant leaves one rule out; a walk notices it.
"""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canopy.sync.ingest import Position, Resume, StreamNow, resume

STEPS = ("publish", "sync", "apply", "ack", "kill reader", "kill server", "power cut", "recreate", "connect", "heal")
Decide = Callable[[Position, StreamNow], Resume]


class Broken(Exception):
    """A property does not hold."""


class World:
    """One stream, one reader. `ids` number the reports; a report is its id, so older is smaller."""

    def __init__(self, decide: Decide) -> None:
        self.decide = decide
        self.ids, self.run, self.created = 0, 1, 1
        self.stored: dict[int, int] = {}  # sequence -> id
        self.last = 0
        self.disk: tuple[dict[int, int], int] = ({}, 0)
        self.position, self.applied, self.newest = Position(), set[int](), 0
        self.cursor: int | None = None
        self.reads = StreamNow("", 1, 0, "")
        self.let_in = False

    def step(self, what: str) -> None:
        getattr(self, what.replace(" ", "_"))()

    # --- the server and its devices ---------------------------------------------------------------------------------
    def publish(self) -> None:
        if self.let_in:
            self.last, self.ids = self.last + 1, self.ids + 1
            self.stored[self.last] = self.ids

    def sync(self) -> None:
        self.disk = (dict(self.stored), self.last)

    def kill_server(self) -> None:
        self.run, self.cursor, self.let_in = self.run + 1, None, False

    def power_cut(self) -> None:
        self.stored, self.last = dict(self.disk[0]), self.disk[1]
        self.kill_server()

    def recreate(self) -> None:
        """Somebody deletes the stream; the server makes it anew, in the same run."""
        self.stored, self.last, self.disk, self.created = {}, 0, ({}, 0), self.created + 1
        self.cursor = None

    # --- the reader -------------------------------------------------------------------------------------------------
    def kill_reader(self) -> None:
        self.cursor = None

    def connect(self) -> None:
        first = min(self.stored, default=self.last + 1)
        now = StreamNow(str(self.created), first, self.last, str(self.run))
        resumed = self.decide(self.position, now)
        self.position, self.cursor = resumed.position, resumed.start
        self.let_in, self.reads = True, now

    def apply(self) -> None:
        waiting = sorted(s for s in self.stored if self.cursor is not None and s >= self.cursor)
        if not waiting:
            return
        seq = waiting[0]
        report, self.cursor = self.stored[seq], seq + 1
        if report < self.newest:
            raise Broken(f"report {report} after {self.newest}")
        self.newest = report
        self.applied.add(report)
        self.position = Position(seq, self.reads.created, self.reads.run)

    def ack(self) -> None:
        """Everything before the cursor goes: it must have been applied."""
        if self.cursor is None:
            return
        self._nothing_skipped(self.cursor)
        self.stored = {s: m for s, m in self.stored.items() if s >= self.cursor}

    def heal(self) -> None:
        self.connect()
        for _ in range(len(self.stored) + 1):
            self.apply()
        self._nothing_skipped(self.last + 1)

    def _nothing_skipped(self, before: int) -> None:
        lost = [report for s, report in self.stored.items() if s < before and report not in self.applied]
        if lost:
            raise Broken(f"never applied: {lost}")


WALKS = st.lists(st.sampled_from(STEPS), max_size=40)


def walk(steps: list[str], decide: Decide) -> None:
    world = World(decide)
    for step in steps:
        world.step(step)
    world.heal()


@settings(max_examples=400, database=None)
@given(WALKS)
def test_nothing_that_had_its_puback_is_skipped_and_nothing_older_replaces_a_newer(steps: list[str]) -> None:
    walk(steps, resume)


def _always_behind_the_position(position: Position, stream: StreamNow) -> Resume:
    """Without 28-30: the stored sequence is trusted in every stream and run."""
    here = Position(position.seq, stream.created, stream.run)
    return Resume(here, position.seq + 1)


def _ignores_the_creation(position: Position, stream: StreamNow) -> Resume:
    """Without 30: another stream is taken for the old one."""
    same = Position(position.seq, stream.created, position.run)
    return resume(same, stream)


def _does_not_take_the_end(position: Position, stream: StreamNow) -> Resume:
    """Without 29: the position is not brought back to the stream's end after a start of the server."""
    here = Position(position.seq, stream.created, position.run)
    return resume(here, stream) if stream.created != position.created else _always_behind_the_position(position, stream)


def _from_the_beginning(position: Position, stream: StreamNow) -> Resume:
    """Without 31: each connection begins with what is stored."""
    return Resume(resume(position, stream).position, 1)


SEARCHED_WALKS = 4000


@pytest.mark.parametrize(
    "mutant", [_always_behind_the_position, _ignores_the_creation, _does_not_take_the_end, _from_the_beginning]
)
def test_leaving_one_rule_out_breaks_something(mutant: Decide) -> None:
    def breaks(steps: list[str]) -> bool:
        try:
            walk(steps, mutant)
        except Broken:
            return True
        return False

    rng = random.Random(1)
    walks = (rng.choices(STEPS, k=rng.randint(1, 40)) for _ in range(SEARCHED_WALKS))
    assert any(breaks(steps) for steps in walks), f"no walk notices {mutant.__doc__}"


@pytest.mark.parametrize(
    ("seq", "first", "last", "start"),
    [(5, 1, 9, 6), (9, 1, 9, 10), (12, 1, 9, 10), (2, 7, 9, 7), (0, 0, 0, 1)],
)
def test_a_reset_stays_within_the_stream(seq: int, first: int, last: int, start: int) -> None:
    """RULES 32: a reset beyond the end is accepted by the server, and would pass over what comes next."""
    now = StreamNow("c", first, last, "r")
    assert resume(Position(seq, "c", "r"), now).start == start

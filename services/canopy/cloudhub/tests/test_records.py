"""A report that shows a bug is its own failure: the others of its batch are stored."""

from typing import Any

from canopy.cloudhub.core import Bounds
from canopy.cloudhub.counts import Counts
from canopy.cloudhub.records import BUG_TRIES, Records
from canopy.cloudhub.view import View
from canopy.runtime.letters import DeadLetters
from canopy.runtime.logs import once_per
from canopy.runtime.metrics import Metrics
from canopy.testing.clock import FrozenClock


async def test_a_poisoned_report_is_asked_for_again_and_then_refused_and_the_others_are_stored(
    stream: Any, make_report: Any
) -> None:
    def bug(address: str) -> None:
        if address.endswith(".bad"):
            raise KeyError("a bug")

    stream.before_put, letters = bug, DeadLetters("cloudhub")
    counts, say = Counts.of(Metrics()), once_per(60)
    records = Records(stream, View(), FrozenClock(), counts, say, Bounds(), letters=letters)
    outcomes = []
    for n in range(1, BUG_TRIES + 1):
        reports = [make_report("a", str(n), n), make_report("bad", "1"), make_report("c", str(n), n)]
        outcomes.append([r.outcome for r in (await records.store("edge-1", (1, n), reports)).results])
    assert outcomes == [["ok", "retry", "ok"]] * (BUG_TRIES - 1) + [["ok", "refused", "ok"]]
    (letter,) = letters.waiting(9)
    assert (letter.source, letter.count) == ("state of edge-1 default/bad", BUG_TRIES)

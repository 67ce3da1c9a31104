"""The sync downward under faults: random walks over the real code, and the same walks with one rule left out.

Each rule's test names the mutation with which the walk (or the assertion) was seen to fail.
"""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canopy.contracts.wire import AsOf, Entry, PageAnswer, Push, Put, encode
from canopy.sync.down import KEY_BYTES, PAGE_ENTRIES, Follower, Wanted, older
from canopy.sync.tests.down_world import (
    ComparesObjects,
    DownWorld,
    EndsAtTheLastPage,
    ForgetsRefusedAsks,
    JoinsKinds,
    Mutant,
    ProvesUnequal,
    RefusesEpochs,
    TakesOlder,
    Violation,
)

WALKS, STEPS = 150, 200
HUNTS = 600


@pytest.mark.parametrize("seed", range(0, WALKS, 10))
def test_with_all_rules_no_fault_breaks_anything(seed: int) -> None:
    for one in range(seed, seed + 10):
        world = DownWorld(one)
        world.walk(STEPS)
        world.heal()


@pytest.mark.parametrize(
    ("rule", "mutant"),
    [
        ("1: older is refused", Mutant(TakesOlder)),
        ("1: as a whole, never kind by kind", Mutant(JoinsKinds)),
        ("3: no resourceVersions object by object", Mutant(ComparesObjects)),
        ("4: an informer that is not complete counts as 0", Mutant(incomplete_counts=True)),
        ("7: a pass that ends unequal begins anew", Mutant(EndsAtTheLastPage)),
        ("8: proven only by an equal hash", Mutant(ProvesUnequal)),
        ("9: only proven sets are read", Mutant(reads_unproven=True)),
        ("9: never an older as_of than the reader's own", Mutant(reader_forgets_as_of=True)),
        ("12: a higher epoch is taken", Mutant(RefusesEpochs)),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_leaving_one_rule_out_breaks_something(rule: str, mutant: Mutant) -> None:
    with pytest.raises(Violation):
        for seed in range(HUNTS):
            world = DownWorld(seed, mutant)
            world.walk(STEPS)
            world.heal()


# --- rules one by one -------------------------------------------------------------------------------------------------
def at(*revisions: int, epoch: int = 0) -> AsOf:
    return AsOf(epoch=epoch, revisions=dict(zip("DM", revisions, strict=False)))


def put(name: str, version: str = "1", size: int = 2) -> Put:
    return Put(Entry("D", "n", name, f"u-{name}", version), msgspec.Raw(b'"' + b"x" * size + b'"'))


@pytest.mark.parametrize(
    ("new", "mine", "refused"),
    [
        (at(5, 5), None, False),
        (at(5, 5), at(5, 5), False),
        (at(6, 5), at(5, 5), False),
        (at(9, 4), at(5, 5), True),
        (at(9), at(5, 5), True),
        (at(5, 5, 1), at(5, 5), False),
        (at(1, 1, epoch=1), at(5, 5), False),
        (at(9, 9), at(5, 5, epoch=1), True),
    ],
)
def test_as_of_is_compared_as_a_whole(new: AsOf, mine: AsOf | None, refused: bool) -> None:
    """RULES 1, 12. Seen to fail with `all` for `any`, and with the epochs' comparison left out."""
    assert older(new, mine) is refused


def test_a_refused_push_does_nothing_and_a_refused_answer_is_asked_again() -> None:
    """RULES 2. Seen to fail with ForgetsRefusedAsks (a refused answer ends the pass)."""

    def passing(kind: type[Follower]) -> bool:
        follower = kind([put("a").entry], at(5, 5))
        asked = follower.ask()
        old = PageAnswer(as_of=at(4, 9), hash="x", puts=[put("b")])
        assert follower.judge(old) is None
        follower.after(old, None)
        return follower.passing and follower.ask() == asked

    assert passing(Follower) and not passing(ForgetsRefusedAsks)
    follower = Follower([put("a").entry], at(5, 5))
    before = (follower.mark, follower.entries.hash)
    push = Push(as_of=at(4, 5), hash="x", deletes=[put("a").entry.key])
    assert follower.judge(push) is None
    follower.after(push, None)
    assert (follower.mark, follower.entries.hash) == before


def test_objects_go_back_when_the_cluster_was_resynced() -> None:
    """RULES 3, 12. Seen to fail with ComparesObjects."""
    follower = Follower([put("a", "9").entry], at(9, 9), at(9, 9))
    message = Wanted([put("a", "3")]).answer(follower.ask(), at(3, 3, epoch=1))
    change = follower.judge(message)
    assert change is not None
    follower.commit(change)
    assert follower.proven and [e.digest for e in follower.entries] == ["3"]


ENTRIES = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.sampled_from("123"), max_size=30)


@settings(max_examples=200)
@given(ENTRIES, ENTRIES, st.integers(1, 8), st.integers(1, 600))
def test_one_pass_over_a_quiet_set_makes_equal(
    have: dict[str, str], wanted: dict[str, str], most: int, most_bytes: int
) -> None:
    """RULES 5, 8. Seen to fail with `next=ask.end` in a full answer, and with deletes left out."""
    follower = Follower(put(n, v).entry for n, v in have.items())
    owner = Wanted(put(n, v) for n, v in wanted.items())
    pages = 0
    while follower.passing:
        answer = owner.answer(follower.ask(most), at(1, 1), most_bytes=most_bytes)
        change = follower.judge(answer)
        assert change is not None
        follower.commit(change)
        follower.after(answer, change)
        pages += 1
        assert pages <= len(have) + len(wanted) + 2, "a second pass began, or none ended"
    assert follower.proven and follower.entries.hash == owner.hash
    assert {e.name: e.digest for e in follower.entries} == wanted


def test_an_idle_check_is_one_small_message() -> None:
    """RULES 5: the hash on the first page. Seen to fail with `hash=None` in `ask`."""
    puts = [put(f"d{i}") for i in range(2000)]
    follower = Follower((p.entry for p in puts), at(1, 1), at(1, 1))
    follower.begin()
    answer = Wanted(puts).answer(follower.ask(), at(2, 2))
    assert len(encode(answer)) < 200
    change = follower.judge(answer)
    assert change is not None and change.equal and not change.puts
    follower.commit(change)
    follower.after(answer, change)
    assert follower.proven and not follower.passing


def test_a_late_answer_is_judged_by_its_as_of_alone() -> None:
    """RULES 6. Seen to fail with TakesOlder."""
    owner = Wanted([put("a"), put("b")])
    follower = Follower()
    first = owner.answer(follower.ask(), at(5, 5))
    for answer, taken in ((first, True), (first, True), (owner.answer(follower.ask(), at(4, 4)), False)):
        change = follower.judge(answer)
        assert (change is not None) is taken
        if change is not None:
            follower.commit(change)
        follower.after(answer, change)
    assert follower.proven


@pytest.mark.parametrize(("kind", "again"), [(Follower, True), (EndsAtTheLastPage, False)])
def test_a_pass_that_ends_unequal_begins_anew(kind: type[Follower], again: bool) -> None:
    """RULES 7. The set changes behind the cursor while the pass runs. Seen to fail with EndsAtTheLastPage."""
    follower = kind()
    for owner, as_of in ((Wanted([put("b"), put("c")]), at(1, 1)), (Wanted([put("a"), put("b"), put("c")]), at(2, 2))):
        answer = owner.answer(follower.ask(), as_of, most_bytes=1)
        change = follower.judge(answer)
        assert change is not None
        follower.commit(change)
        follower.after(answer, change)
    assert follower.passing is again and not follower.proven


def test_a_push_that_leads_to_another_hash_begins_a_pass() -> None:
    """RULES 7. Seen to fail without the branch for pushes in `after`."""
    follower = Follower([], at(1, 1), at(1, 1))
    follower.mark = replace(follower.mark, cursor=None)
    push = Push(as_of=at(2, 1), hash=Wanted([put("a"), put("b")]).hash, puts=[put("b")])
    change = follower.judge(push)
    assert change is not None and not change.equal
    follower.commit(change)
    follower.after(push, change)
    assert follower.passing and not follower.proven


def test_every_page_and_every_ask_fits_a_body() -> None:
    """Bounds. Names of 253 characters: 500 of them would not fit one ask."""
    long = [
        Put(Entry("Device", "n" * 253, f"{i:03}" + "x" * 250, "u" * 36, "d" * 16), msgspec.Raw(b'"%s"' % (b"y" * 2000)))
        for i in range(1000)
    ]
    follower = Follower(p.entry for p in long)
    ask = follower.ask()
    assert len(encode(ask)) < 2 * KEY_BYTES + 70 * PAGE_ENTRIES and ask.end is not None
    assert len(encode(Wanted(long).answer(Follower().ask(), at(1, 1)))) < 240 * 1024
    gone = Wanted([put("a", size=200_000)]).answer(msgspec.structs.replace(ask, hash=None), at(1, 1))
    assert len(gone.deletes) == len(ask.entries) and len(encode(gone)) < 240 * 1024

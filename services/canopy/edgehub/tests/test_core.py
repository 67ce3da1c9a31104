"""The session's table: (state, event) -> state, what is done, when the next thing is due."""

import random
from itertools import product

import msgspec
import pytest

from canopy.contracts.wire import BeatAnswer, HelloAnswer, Limits, LinkState, Verdict
from canopy.edgehub import core
from canopy.edgehub.core import (
    Beaten,
    Complain,
    Due,
    Gone,
    Greeted,
    Hint,
    Machine,
    Refused,
    SayLink,
    SendBeat,
    SendHello,
    Silent,
    State,
    WantTwins,
)

WALL = 1_700_000_000_000
HELLO = HelloAnswer(session=7, nonce="n7", protocol=1, limits=Limits(beat_seconds=10), time=WALL)
KINDS = (Due, Hint, Greeted, Beaten, Refused, Gone, Silent)


def machine(state: State, now: float = 100.0, session: int = 7) -> Machine:
    made = Machine(random.Random(1))
    if state is State.AWAY:
        return made
    made.on(Due(), now)
    if state is State.GREETING:
        return made
    answer = HelloAnswer(session=session, nonce=f"n{session}", protocol=1, time=WALL)
    made.on(Greeted(answer, WALL), now)
    if state is State.SUPERSEDED:
        made.on(Refused(session, Verdict(verdict="superseded")), now)
    return made


def test_the_table_has_every_state_and_event() -> None:
    assert set(core.TABLE) == set(product(State, KINDS))


@pytest.mark.parametrize(
    ("state", "event", "then", "actions"),
    [
        (State.AWAY, Due(), State.GREETING, (SendHello,)),
        (State.GREETING, Greeted(HELLO, WALL), State.UP, (Complain, SayLink)),
        (State.GREETING, Gone(0), State.AWAY, (SayLink,)),
        (State.GREETING, Silent(0), State.AWAY, (SayLink,)),
        (State.GREETING, Refused(0, Verdict(verdict="busy", retry_after_seconds=3)), State.AWAY, (SayLink,)),
        (State.GREETING, Refused(0, Verdict(verdict="superseded")), State.SUPERSEDED, (Complain, SayLink)),
        (State.GREETING, Refused(0, Verdict(verdict="refused")), State.AWAY, (Complain, SayLink)),
        (State.UP, Due(), State.UP, (SayLink, SendBeat)),
        (State.UP, Beaten(7, BeatAnswer()), State.UP, ()),
        (State.UP, Beaten(7, BeatAnswer(page=True)), State.UP, (WantTwins,)),
        (State.UP, Gone(7), State.AWAY, (SayLink,)),
        (State.UP, Silent(7), State.AWAY, (SayLink,)),
        (State.UP, Refused(7, Verdict(verdict="hello")), State.AWAY, (SayLink,)),
        (State.UP, Refused(7, Verdict(verdict="superseded")), State.SUPERSEDED, (Complain, SayLink)),
        (State.UP, Refused(7, Verdict(verdict="busy", retry_after_seconds=3)), State.UP, ()),
        (State.UP, Refused(6, Verdict(verdict="superseded")), State.UP, ()),
        (State.UP, Gone(6), State.UP, ()),
        (State.UP, Beaten(6, BeatAnswer(page=True)), State.UP, ()),
        (State.SUPERSEDED, Due(), State.GREETING, (SendHello,)),
        (State.SUPERSEDED, Hint(), State.SUPERSEDED, ()),
        (State.SUPERSEDED, Greeted(HELLO, WALL), State.SUPERSEDED, ()),
    ],
)
def test_what_each_event_does(
    state: State, event: core.Event, then: State, actions: tuple[type[core.Action], ...]
) -> None:
    made = machine(state)
    done = made.on(event, 200.0)
    assert (made.link.state, tuple(map(type, done))) == (then, actions)


def test_a_session_comes_with_its_nonce_and_limits_and_beats_at_once() -> None:
    made = machine(State.GREETING)
    done = made.on(Greeted(HELLO, WALL), 100.0)
    assert (made.link.session, made.link.nonce, made.link.due, made.link.seen) == (7, "n7", 100.0, 7)
    assert done[-1] == SayLink(LinkState(up=True, session=7))


def test_n_counts_the_messages_of_one_session() -> None:
    made = machine(State.UP)
    assert [made.stamp(), made.stamp()] == [(7, 1), (7, 2)]
    made.on(Gone(7), 101)
    made.on(Due(), 102)
    made.on(Greeted(HelloAnswer(session=9, protocol=1), WALL), 102)
    assert made.stamp() == (9, 1)


def test_the_next_hello_bears_the_highest_session_seen() -> None:
    made = machine(State.UP)
    made.on(Gone(7), 101)
    assert made.on(Due(), 102) == (SendHello(7),)


def test_beats_come_within_their_interval_with_jitter() -> None:
    dues = set()
    made = machine(State.UP)
    for i in range(20):
        made.on(Due(), 100.0 * i)
        dues.add(made.link.due - 100.0 * i)
    assert all(8 <= d <= 10 for d in dues) and len(dues) > 10


def test_while_the_link_is_down_a_hello_is_tried_within_a_second() -> None:
    made = machine(State.GREETING)
    for _ in range(50):
        made.on(Gone(0), 100.0)
        assert 0.4 < made.link.due - 100 <= 1.0
        made.on(Due(), 101.0)


def test_while_the_cloud_is_silent_hellos_come_ever_more_seldom_up_to_two_seconds() -> None:
    waits = []
    made = machine(State.GREETING)
    for _ in range(200):
        made.on(Silent(0), 100.0)
        waits.append(made.link.due - 100)
        made.on(Due(), 101.0)
    assert max(waits[:2]) <= 0.4 and 1.5 < max(waits) <= 2


def test_a_superseded_one_waits_twice_as_long_each_time_up_to_a_bound() -> None:
    """RULES 15. Without the doubling (a constant wait) two machines take the session from each other every second."""
    waits = []
    made, now = machine(State.GREETING), 100.0
    for i in range(9):
        made.on(Greeted(HelloAnswer(session=10 + i, protocol=1), WALL), now)
        made.on(Refused(10 + i, Verdict(verdict="superseded")), now)
        waits.append(made.link.due - now)
        now = made.link.due
        made.on(Due(), now)
    assert all(0.75 * 2**i <= w <= 2**i for i, w in enumerate(waits[:5]))
    assert all(12 <= w <= 16 for w in waits[4:])


def test_a_session_held_for_long_ends_the_quarrel() -> None:
    made = machine(State.SUPERSEDED)
    made.on(Due(), 200)
    made.on(Greeted(HELLO, WALL), 200)
    made.on(Beaten(7, BeatAnswer()), 200 + core.SETTLED_SECONDS + 1)
    made.on(Refused(7, Verdict(verdict="superseded")), 1000)
    assert made.link.due - 1000 <= 1


def test_two_machines_with_one_identity_are_said_loudly() -> None:
    done = machine(State.UP).on(Refused(7, Verdict(verdict="superseded")), 200)
    assert isinstance(done[0], Complain) and done[0].loud and "identity" in done[0].text


@pytest.mark.parametrize("protocol", [0, 2, 99])
def test_a_protocol_that_is_not_ours_is_said_and_tried_seldom(protocol: int) -> None:
    made = machine(State.GREETING)
    done = made.on(Greeted(HelloAnswer(session=7, protocol=protocol), WALL), 100)
    assert made.link.state is State.AWAY and made.link.due >= 120 and made.link.session == 0
    assert isinstance(done[0], Complain) and done[0].loud
    made.on(Hint(), 101)
    assert made.link.due >= 120


def test_a_hint_brings_the_hello_forward_but_never_before_a_busy_clouds_time() -> None:
    made = machine(State.GREETING)
    made.on(Silent(0), 100)
    made.on(Hint(), 100)
    assert made.link.due == 100
    made.on(Due(), 100)
    made.on(Refused(0, Verdict(verdict="busy", retry_after_seconds=5)), 100)
    made.on(Hint(), 101)
    assert made.link.due >= 105


@pytest.mark.parametrize(("off_ms", "said"), [(0, False), (4_900, False), (5_100, True), (-60_000, True)])
def test_a_clock_that_is_off_is_said(off_ms: int, said: bool) -> None:
    done = machine(State.GREETING).on(Greeted(HELLO, WALL + off_ms), 100)
    assert any(isinstance(a, Complain) and "clock" in a.text for a in done) is said


def test_the_hash_is_compared_when_nothing_waits_or_long_ago() -> None:
    made = machine(State.UP, now=100)
    assert made.compares(0, 100, 60)
    assert not made.compares(3, 150, 60)
    assert made.compares(3, 161, 60)
    assert not made.compares(3, 162, 60)
    assert made.compares(0, 163, 60)


def test_the_link_is_said_once_a_change() -> None:
    made = machine(State.GREETING)
    assert made.on(Gone(0), 100) == (SayLink(LinkState(up=False, reason="the link is down")),)
    made.on(Due(), 101)
    assert made.on(Gone(0), 101) == ()


def test_devicetwin_is_told_how_many_states_the_cloud_takes_at_once() -> None:
    made = machine(State.GREETING)
    few = msgspec.structs.replace(HELLO, limits=Limits(reports_per_batch=20))
    assert made.on(Greeted(few, WALL), 100.0)[-1] == SayLink(LinkState(up=True, session=7, reports_per_batch=20))

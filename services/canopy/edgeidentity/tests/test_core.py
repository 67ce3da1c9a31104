"""Which configuration the leaf runs with: a table of (state, event) -> what to do."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.edgeidentity.core import (
    AskTwin,
    Connected,
    Event,
    Form,
    Guest,
    Invited,
    Loaded,
    Lost,
    Reload,
    Renewed,
    Rest,
    State,
    Step,
    Taken,
    after,
    gate,
    step,
    urgent,
)

LIGHT, LAMP = (Guest("default", name, f"spiffe://n/device/default/{name}") for name in ("light", "lamp"))
ONE, TWO = frozenset({LIGHT}), frozenset({LIGHT, LAMP})
CLOSED = Form(None, 0)
OPEN = Form(ONE, 0)

AWAY = State(guests=ONE)
FRESH = State(run="r1", guests=ONE)  # connected, nothing known
WAITING = replace(FRESH, loaded=CLOSED)
TAKEN = replace(WAITING, taken="r1")
OPENED = replace(TAKEN, loaded=OPEN)


@pytest.mark.parametrize(
    ("state", "event", "expected"),
    [
        pytest.param(AWAY, Taken("r1"), Rest(), id="without a connection nothing can be done"),
        pytest.param(AWAY, Connected("r1"), Reload("r1", CLOSED), id="a new run is read to with the gate closed"),
        pytest.param(FRESH, Loaded("r1", CLOSED), AskTwin("r1"), id="closed: DeviceTwin is asked"),
        pytest.param(WAITING, Taken("r0"), AskTwin("r1"), id="a position in an older run opens nothing"),
        pytest.param(WAITING, Taken("r1"), Reload("r1", OPEN), id="its position in this run opens the gate"),
        pytest.param(TAKEN, Loaded("r0", OPEN), Reload("r1", OPEN), id="what another run has read says nothing"),
        pytest.param(TAKEN, Loaded("r1", OPEN), Rest(), id="open: nothing to do"),
        pytest.param(OPENED, Invited(TWO), Reload("r1", Form(TWO, 0)), id="a device came"),
        pytest.param(OPENED, Invited(frozenset()), Reload("r1", Form(frozenset(), 0)), id="the last device went"),
        pytest.param(OPENED, Invited(ONE), Rest(), id="the same devices again"),
        pytest.param(
            OPENED, Renewed(), Reload("r1", Form(ONE, 1)), id="a certificate was renewed, the gate stays open"
        ),
        pytest.param(WAITING, Renewed(), Reload("r1", Form(None, 1)), id="a certificate was renewed behind the gate"),
        pytest.param(WAITING, Invited(TWO), AskTwin("r1"), id="devices come and go behind a closed gate"),
        pytest.param(OPENED, Lost(), Rest(), id="the connection went"),
        pytest.param(OPENED, Connected("r2"), Reload("r2", CLOSED), id="another run begins closed"),
        pytest.param(OPENED, Connected("r1"), Reload("r1", OPEN), id="the same run again stays open"),
        pytest.param(replace(TAKEN, guests=None), Renewed(), Reload("r1", Form(None, 1)), id="no set was ever read"),
    ],
)
def test_what_is_done_about_an_event(state: State, event: Event, expected: Step) -> None:
    assert step(after(state, event)) == expected


@pytest.mark.parametrize(
    ("state", "event", "expected"),
    [
        pytest.param(WAITING, Taken("r1"), True, id="the gate opens"),
        pytest.param(OPENED, Connected("r2"), True, id="another run"),
        pytest.param(OPENED, Invited(frozenset()), True, id="a device is to go"),
        pytest.param(OPENED, Invited(TWO), False, id="a device comes"),
        pytest.param(OPENED, Renewed(), False, id="a certificate was renewed in time"),
    ],
)
def test_what_can_wait_a_moment_goes_together(state: State, event: Event, expected: bool) -> None:
    assert urgent(after(state, event)) is expected


def test_the_gate_says_what_it_waits_for() -> None:
    assert gate(AWAY) == "the leaf is not connected"
    assert gate(WAITING) == "DeviceTwin has not taken its position in this run of the leaf"
    assert gate(replace(TAKEN, guests=None)) == "MetaManager has not shown a proven set of devices yet"
    assert gate(TAKEN) == "the leaf has not read its devices yet"
    assert gate(OPENED) == ""


RUNS = ("r1", "r2")
FORMS = [Form(d, m) for d, m in product((None, ONE, TWO), (0, 1))]
EVENTS: list[Event] = [
    *(kind(run) for kind in (Connected, Taken) for run in RUNS),
    *(Loaded(run, form) for run in RUNS for form in FORMS),
    Lost(),
    Invited(ONE),
    Invited(TWO),
    Renewed(),
]


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_devices_are_let_in_only_to_a_run_in_which_devicetwin_took_its_position(events: list[Event]) -> None:
    state, taken = State(), ""
    for event in events:
        state = after(state, event)
        taken = event.run if isinstance(event, Taken) else taken
        done = step(state)
        assert not isinstance(done, Reload) or done.form.gated or done.run == taken


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_whatever_happened_it_comes_to_rest_open_with_the_newest_devices(events: list[Event]) -> None:
    state = State(guests=ONE)
    for event in events:
        state = after(state, event)
    state = after(state, Connected("r3"))
    for _ in range(4):
        match step(state):
            case Reload(run, form):
                state = after(state, Loaded(run, form))
            case AskTwin(run):
                state = after(state, Taken(run))
    assert step(state) == Rest()
    assert state.loaded == Form(state.guests, state.material)

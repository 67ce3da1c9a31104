"""What the leaf should be running with, and what to do next about it (RULES 29). Pure; `leafward` feeds the events.

A leaf that starts reads a configuration without devices: the gate is closed. It is opened by a reload, once DeviceTwin
has taken its position in that run of nats-server, and a new run is closed again, whatever was before.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple


class Guest(NamedTuple):
    """A device, or (without a namespace) an app, and the SPIFFE ID that it has now."""

    namespace: str
    name: str
    id: str


Guests = frozenset[Guest]


@dataclass(frozen=True, slots=True)
class Form:
    """What a leaf has read: whom it lets in besides units (None: the gate is closed), and which of the certificates
    and keys, by a number that rises with each change of theirs."""

    guests: Guests | None
    material: int

    @property
    def gated(self) -> bool:
        return self.guests is None


@dataclass(frozen=True, slots=True)
class State:
    """`run` is that of nats-server on the system connection, "" while there is none; `taken` the one in which
    DeviceTwin took its position; `guests` None: no proven set was ever read; `loaded` None: what this run has read
    is not known."""

    run: str = ""
    taken: str = ""
    guests: Guests | None = None
    material: int = 0
    loaded: Form | None = None

    @property
    def wanted(self) -> Form:
        """What the leaf should be running with."""
        return Form(self.guests if self.run and self.taken == self.run else None, self.material)


# --- what happens -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Connected:
    """The system connection stands (again), to this run."""

    run: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The system connection went."""


@dataclass(frozen=True, slots=True)
class Taken:
    """DeviceTwin has its position in this run, and has stored that."""

    run: str


@dataclass(frozen=True, slots=True)
class Invited:
    """Who may come in: the devices of the proven set, by the identities that they have now, and apps."""

    guests: Guests


@dataclass(frozen=True, slots=True)
class Renewed:
    """A certificate, a key or a bundle that the leaf reads is another one."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """This run has read this."""

    run: str
    form: Form


Event = Connected | Lost | Taken | Invited | Renewed | Loaded


# --- what to do -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Reload:
    """Let `run` read `form`."""

    run: str
    form: Form


@dataclass(frozen=True, slots=True)
class AskTwin:
    """Ask DeviceTwin whether it has its position in `run`, again and again."""

    run: str


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing, until something happens."""


Step = Reload | AskTwin | Rest


def after(state: State, event: Event) -> State:
    """The state that an event leads to."""
    match event:
        case Connected(run):  # also to the same run: an answer to a reload may have been lost
            return replace(state, run=run, loaded=None)
        case Lost():
            return replace(state, run="", loaded=None)
        case Taken(run):
            return replace(state, taken=run)
        case Invited(guests):
            return replace(state, guests=guests)
        case Renewed():
            return replace(state, material=state.material + 1)
        case Loaded(run, form):
            return replace(state, loaded=form) if run == state.run else state


def step(state: State) -> Step:
    """The one thing to do now."""
    if not state.run:
        return Rest()
    if state.loaded != state.wanted:
        return Reload(state.run, state.wanted)
    return AskTwin(state.run) if state.taken != state.run else Rest()


def urgent(state: State) -> bool:
    """Whether a reload has to be now: the gate opens or closes, somebody is to go, or nothing is known. Others may
    wait a moment and be one: each costs the leaf a look at everybody who is connected."""
    loaded, wanted = state.loaded, state.wanted
    if loaded is None or loaded.guests is None or wanted.guests is None:
        return True
    return bool(loaded.guests - wanted.guests)


def gate(state: State) -> str:
    """Why no device is let in, in words; "" while the gate is open."""
    if not state.run:
        return "the leaf is not connected"
    if state.taken != state.run:
        return "DeviceTwin has not taken its position in this run of the leaf"
    if state.guests is None:
        return "MetaManager has not shown a proven set of devices yet"
    return "" if state.loaded is not None and not state.loaded.gated else "the leaf has not read its devices yet"

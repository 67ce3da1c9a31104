"""A cut that no ask shows is seen by looking at the leaf."""

import random

import pytest

from canopy.edgehub.core import Event, Gone, Hint, Machine
from canopy.edgehub.watch import LinkWatch
from canopy.testing.clock import FrozenClock


class _Keeper:
    """What the watch needs of the session: its machine, and an ear."""

    def __init__(self) -> None:
        self.machine, self.posted = Machine(random.Random(1)), list[Event]()

    async def post(self, event: Event) -> None:
        self.posted.append(event)


@pytest.mark.parametrize(
    ("looks", "posted"),
    [
        ([True, True], []),
        ([True, False], [Gone(0)]),
        ([True, False, False, True], [Gone(0), Hint()]),
        ([True, None, True], []),
        ([False, None, True], [Gone(0), Hint()]),
    ],
)
async def test_only_what_has_changed_is_told(looks: list[bool | None], posted: list[Event]) -> None:
    keeper, seen = _Keeper(), iter(looks)

    async def linked() -> bool | None:
        return next(seen)

    watch = LinkWatch(keeper, linked, FrozenClock(), 0.4)  # type: ignore[arg-type]
    for _ in looks:
        await watch.look()
    assert keeper.posted == posted

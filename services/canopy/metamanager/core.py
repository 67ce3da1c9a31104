"""When to ask for a page, and what of another cluster is refused. Pure: the shell brings the time (seconds of one
monotonic clock). What a message does to the set is `canopy.sync.down.Follower`'s."""

import random

from canopy.contracts.wire import AsOf
from canopy.runtime.backoff import Backoff

FIRST_SECONDS, MOST_SECONDS = 0.2, 3.0
"""After a page that failed, was refused for being older, or ended unequal: so late, at most, is a set right after a
controller is back. A busy cloud says longer times itself."""
MOST_BUSY_SECONDS = 10.0


class Pace:
    """When the next page of one channel is asked. `due` is the time."""

    def __init__(self, check_seconds: float, rng: random.Random) -> None:
        self.due = 0.0
        self._check_seconds, self._rng = check_seconds, rng
        self._backoff = Backoff(FIRST_SECONDS, MOST_SECONDS, rng)
        self._session = 0

    def on_link(self, up: bool, session: int, now: float) -> None:
        """The link's state, said at each change and each beat: a new session leads to a page at once."""
        if not up or session == self._session:
            return
        self._session = session
        self.hurry(now)

    def hurry(self, now: float) -> None:
        """Something shows that the sets differ, or that the cloud answers again."""
        self._backoff.reset()
        self.due = now

    def on_failure(self, now: float, after_seconds: float = 0.0) -> None:
        """A page brought no answer, or one that was no good."""
        self.due = now + max(self._backoff.next_seconds(), min(after_seconds, MOST_BUSY_SECONDS))

    def on_push(self, equal: bool, now: float) -> None:
        """A push was taken; it led to the cloud's hash or not."""
        if not equal:
            self.due = min(self.due, now)

    def on_refused(self, now: float) -> None:
        """A push was refused for being older, and says of another set than ours. The leader may have listed before the
        replica whose page we took: what it says is new all the same, and a page brings it."""
        self.due = min(self.due, now + self._backoff.next_seconds())

    def on_page(self, taken: bool, passing: bool, goes_on: bool, now: float) -> None:
        """A page's answer was judged. `goes_on`: it named the place of the next one."""
        if not taken or (passing and not goes_on):
            return self.on_failure(now)  # older than ours, or all is seen and the hash is another one
        self._backoff.reset()
        self.due = now if passing else now + self._check_seconds * self._rng.uniform(0.75, 1.0)


def foreign(cluster: str, as_of: AsOf | None, mine: str, my_as_of: AsOf | None) -> bool:
    """Whether a message is of another cluster than ours: refused until an operator's resync has raised the epoch."""
    if not cluster or not mine or cluster == mine:
        return False
    return as_of is None or my_as_of is None or as_of.epoch <= my_as_of.epoch

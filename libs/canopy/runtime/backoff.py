"""How long to wait before trying again. Called by whoever reconnects, repeats or restarts."""

import random


class Backoff:
    """Full jitter: any time between 0 and a ceiling that doubles from `first_seconds` to `most_seconds`."""

    def __init__(self, first_seconds: float, most_seconds: float, rng: random.Random) -> None:
        if not 0 < first_seconds <= most_seconds:
            raise ValueError(f"backoff from {first_seconds} s to {most_seconds} s: give 0 < first <= most")
        self._first = first_seconds
        self._most = most_seconds
        self._rng = rng
        self._ceiling = first_seconds

    @property
    def ceiling_seconds(self) -> float:
        """The most that `next_seconds` will say."""
        return self._ceiling

    def next_seconds(self) -> float:
        seconds = self._rng.uniform(0, self._ceiling)
        self._ceiling = min(self._most, self._ceiling * 2)
        return seconds

    def reset(self) -> None:
        """It worked: begin anew the next time."""
        self._ceiling = self._first

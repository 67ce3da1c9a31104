"""How many a second. For `tracing`."""

from collections.abc import Callable


class Rate:
    """At most so many a second, with a second's worth saved up."""

    __slots__ = ("_at", "_left", "_monotonic", "_most", "_per_second")

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second) if per_second > 0 else 0.0
        self._left = self._most
        self._monotonic = monotonic
        self._at = monotonic()

    def allows(self) -> bool:
        now = self._monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

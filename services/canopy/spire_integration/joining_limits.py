"""How often one address may ask: a bucket of asks each, refilled steadily. Bounded, pure; the endpoint asks it."""

from collections import OrderedDict
from dataclasses import dataclass

MOST_ADDRESSES = 10_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Limits:
    """`per_second` asks an address on the long run, `burst` at once; beyond 10,000 addresses the longest silent goes.

    Times are of a monotonic clock. An IPv6 caller has many addresses: those of one /64 count as one.
    """

    def __init__(self, per_second: float, burst: float, most: int = MOST_ADDRESSES) -> None:
        self._per_second, self._burst, self._most = per_second, burst, most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    @property
    def addresses(self) -> int:
        return len(self._buckets)

    def take(self, address: str, now: float) -> float:
        """0: it may; else the seconds until it may."""
        key = network(address)
        bucket = self._buckets.get(key) or _Bucket(self._burst, now)
        bucket.left = min(self._burst, bucket.left + max(0.0, now - bucket.at) * self._per_second)
        bucket.at = now
        self._buckets[key] = bucket
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        if bucket.left < 1:
            return (1 - bucket.left) / self._per_second
        bucket.left -= 1
        return 0.0


def network(address: str) -> str:
    """What counts as one caller."""
    if ":" not in address:
        return address
    head = address.split("%")[0].lower()
    if head.startswith("::ffff:") and "." in head:
        return head[7:]
    groups = head.split("::")[0].split(":")
    return ":".join((groups + ["0"] * 4)[:4])

"""What joining keeps (streams NODES and TOKENS, by compare-and-set) and whom it tells. `joining` calls it."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from canopy.bus.streams import Value, WrongSequence
from canopy.contracts.identity_wire import AuditRecord
from canopy.contracts.subject import AnySubject
from canopy.contracts.wire import encode

TRIES = 5
M = TypeVar("M", bound=msgspec.Struct)


class Kept(Protocol):
    """A stream of last values, as `canopy.bus.streams.LastValues`."""

    async def get(self, address: str) -> Value | None: ...
    async def put(self, address: str, data: bytes, expect: int | None) -> int: ...


class Audit(Protocol):
    """`canopy.runtime.audit.AuditLog.record`."""

    def __call__(
        self,
        what: str,
        *,
        outcome: str = "ok",
        who: str = "",
        subject: str = "",
        reason: str = "",
        where: str = "",
        serial: str = "",
        not_after: int = 0,
    ) -> AuditRecord: ...


class Shelf(Generic[M]):
    """Records of one kind, written by compare-and-set."""

    def __init__(self, kept: Kept, subject: AnySubject, place: str, kind: type[M]) -> None:
        self._kept, self._subject, self._place, self._kind = kept, subject, place, kind

    async def change(self, key: str, decide: Callable[[M | None], M]) -> M:
        """Read, decide, write; when another was quicker, again. What `decide` raises is raised, nothing written."""
        address = self._subject.at(**{self._place: key})
        for _ in range(TRIES):
            value = await self._kept.get(address)
            known = msgspec.json.decode(value.data, type=self._kind) if value else None
            decided = decide(known)
            if decided is known:
                return decided
            try:
                await self._kept.put(address, encode(decided), value.seq if value else 0)
            except WrongSequence:
                continue
            return decided
        raise TimeoutError(f"{address} is written again and again by others")

    async def read(self, key: str) -> M | None:
        value = await self._kept.get(self._subject.at(**{self._place: key}))
        return msgspec.json.decode(value.data, type=self._kind) if value else None

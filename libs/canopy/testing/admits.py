"""Who answers a hub's auth callout in tests that may import no unit: it decides as spire_integration does, and knows no
revocation and no audit.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from canopy.bus import Connection, admission
from canopy.bus.admission import Admitted
from canopy.bus.callout import Callout
from canopy.identity import ids, natsjwt
from canopy.identity.natsjwt import Nkey
from canopy.identity.svid import certificates, chain_id
from canopy.runtime.clock import SystemClock
from canopy.testing.domain import TD

Answers = Callable[[bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Admits:
    """Lets in by the verified certificate whoever `canopy.bus.admission` has a place for; and whoever calls itself by a
    name in `more`, where a test needs somebody who sees and may everything."""

    issuer: Nkey
    td: str = TD
    more: Mapping[str, Admitted] = field(default_factory=dict)

    def __call__(self, data: bytes) -> bytes:
        request = natsjwt.read_request(data)
        member = ids.member(self.td, chain_id(request.chain_pem)) if request.chain_pem else None
        place = self.more.get(request.name) or (admission.rights(member) if member else None)
        now = int(time.time())
        about = (self.issuer.seed, request.server_id, request.user_nkey)
        if member is None or place is None:
            return natsjwt.callout_answer(*about, error="refused", now=now).encode()
        jwt = natsjwt.user_jwt(
            self.issuer.seed,
            request.user_nkey,
            place.account,
            name=f"node/{member.name}" if member.kind == "node" else "",  # as spire_integration does
            publish=place.rights.publish,
            subscribe=place.rights.subscribe,
            expires_at=int(certificates(request.chain_pem)[0].not_valid_after_utc.timestamp()),
            now=now,
        )
        return natsjwt.callout_answer(*about, jwt=jwt, now=now).encode()


@asynccontextmanager
async def answering(connection: Connection, answers: Answers) -> AsyncIterator[None]:
    """`answers` decide who comes in, until the block ends; the connection is in the hub's account for that."""
    task = asyncio.create_task(Callout(connection, answers, SystemClock(), lambda: None).run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

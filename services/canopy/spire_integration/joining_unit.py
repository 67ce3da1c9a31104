"""Builds joining: `unit` calls `serve`, and nodes join and renew, tokens are made, until the block ends."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from canopy.bus.bus import Bus
from canopy.bus.streams import LastValues
from canopy.contracts.catalogue import IDENTITY_TOKEN
from canopy.identity import joinroot
from canopy.identity.authority import Authority
from canopy.identity.joinroot import JoinRoot
from canopy.runtime.clock import Clock
from canopy.runtime.health import Health
from canopy.runtime.metrics import Metrics
from canopy.runtime.settings import SettingsError
from canopy.spire_integration import tokens
from canopy.spire_integration.adapters.door import Bounds, Door
from canopy.spire_integration.adapters.http import Endpoint
from canopy.spire_integration.joining import Joining
from canopy.spire_integration.joining_limits import Limits
from canopy.spire_integration.joining_proofs import Rules
from canopy.spire_integration.joining_settings import JoiningSettings
from canopy.spire_integration.joining_shelf import Audit

log = logging.getLogger("canopy.spire_integration")
TOKENS_AT_ONCE = 8
KEPT_TOKENS = 20_000
KEPT_SECONDS = tokens.MOST_SECONDS + 24 * 3600
"""A token that is over is remembered for a while, so that its second use is told from nonsense."""
STREAMS_SECONDS = 30.0
CERTIFICATE_SECONDS = joinroot.ENDPOINT_SECONDS / 2


@dataclass(frozen=True, slots=True)
class Parts:
    """What the unit gives. `bus` has the role spire_integration, `audit` is `AuditLog.record`, and `keys_dir`, the same
    for all replicas, holds the join root."""

    bus: Bus
    authority: Authority
    audit: Audit
    clock: Clock
    metrics: Metrics
    health: Health
    settings: JoiningSettings
    trust_domain: str
    keys_dir: Path
    stream_replicas: int = 1


@dataclass(frozen=True, slots=True)
class Served:
    """`url` is where it listens, `fingerprint` the join root's SHA-256; `wait` ends by an exception only."""

    url: str
    fingerprint: str
    wait: Callable[[], Awaitable[None]]


@asynccontextmanager
async def serve(parts: Parts) -> AsyncIterator[Served]:
    """Raises SettingsError, and OSError for an address or a folder that cannot be used."""
    now, s = parts.clock.now_ms() / 1000, parts.settings
    rules = Rules(parts.trust_domain, s.node_ttl_seconds, s.node_grace_seconds, makers(s), s.join_maker_names)
    root = joinroot.at(parts.keys_dir, parts.trust_domain, now)
    context = joinroot.server_context(joinroot.endpoint(root, parts.trust_domain, now))
    nodes, kept = LastValues(parts.bus, "NODES"), LastValues(parts.bus, "TOKENS")
    streams = (nodes, kept)
    joining = Joining(
        rules,
        root,
        parts.authority,
        streams,
        parts.audit,
        parts.clock,
        lambda: s.join_url or door.url,
        s.join_hub_url,
    )
    limits = Limits(s.join_asks_per_second, s.join_burst)
    asked = parts.metrics.counter("canopy_spire_integration_join_asks_total")
    bounds = Bounds(
        s.join_connections,
        s.join_connections_per_address,
        per_second=s.join_connections_per_second,
        address_per_second=s.join_asks_per_second,
        address_burst=s.join_burst,
    )
    await _ensure(kept, parts.stream_replicas)
    door = Door(Endpoint(joining, limits, parts.clock, asked).app(), context, s.join_listen, bounds)
    async with door:
        parts.metrics.gauge("canopy_spire_integration_join_connections", read=lambda: door.connections)
        await parts.bus.serve(IDENTITY_TOKEN, joining.token, concurrency=TOKENS_AT_ONCE)
        log.info("nodes join here", extra={"listens": door.url, "url": s.join_url, "join_root": root.fingerprint})
        works = [asyncio.create_task(w) for w in (door.wait(), _keep_stream(parts, kept), _renew(context, root, parts))]
        try:
            yield Served(door.url, root.fingerprint, lambda: _first(works))
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)


def makers(settings: JoiningSettings) -> bytes:
    """The roots of manufacturers. Raises SettingsError."""
    if not settings.join_makers:
        return b""
    try:
        pem = Path(settings.join_makers).read_bytes()
        joinroot.fingerprint(pem)
    except (OSError, ValueError) as e:
        raise SettingsError(
            f"join_makers (CANOPY_SPIRE_INTEGRATION_JOIN_MAKERS) is {settings.join_makers!r}: {e}; name a PEM file"
        ) from None
    return pem


async def _ensure(kept: LastValues, replicas: int) -> None:
    age_ns = KEPT_SECONDS * 1_000_000_000
    await kept.ensure(replicas=replicas, max_msgs=KEPT_TOKENS, discard="old", max_age=age_ns)


async def _keep_stream(parts: Parts, kept: LastValues) -> None:
    """A hub that comes back may have lost its volume: make sure of the stream after each reconnect, and slowly."""
    back = asyncio.Event()

    async def reconnected() -> None:
        back.set()

    parts.bus.connection.on_reconnect(reconnected)
    try:
        while True:
            await parts.clock.wait(back, STREAMS_SECONDS)
            await _ensure(kept, parts.stream_replicas)
    finally:
        parts.bus.connection.forget(reconnected)


async def _renew(context: ssl.SSLContext, root: JoinRoot, parts: Parts) -> None:
    """The endpoint's certificate, well before its end."""
    while True:
        await parts.clock.sleep(CERTIFICATE_SECONDS)
        joinroot.load(context, joinroot.endpoint(root, parts.trust_domain, parts.clock.now_ms() / 1000))


async def _first(works: "list[asyncio.Task[None]]") -> None:
    """Until one ends, by its exception."""
    done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    for one in done:
        one.result()

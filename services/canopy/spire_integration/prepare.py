"""What stands before this unit can connect: with the built-in authority the identities of the hub and the cloud's
units, which the hub needs to start. The process enters `prepared` first, and it keeps them for as long as it lives.

`python -m canopy.spire_integration.prepare` writes them once, for whoever starts the hub first.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from canopy.identity.authority import Authority, AuthorityAway, AuthorityRefused
from canopy.identity.builtin import Builtin
from canopy.identity.hubkeys import HubKeys, NoKeys
from canopy.identity.identity import SVID_FILE
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.logs import once_per
from canopy.runtime.settings import SettingsError, Shared, load
from canopy.spire_integration.files import HUB, Files, wanted
from canopy.spire_integration.settings import Settings

log = logging.getLogger("canopy.spire_integration")
SAY_AGAIN_SECONDS = 60.0
FIRST_SECONDS = 0.2


def authority_of(settings: Settings, shared: Shared, clock: Clock) -> Authority:
    """The one that the settings name; nothing is asked of it yet."""
    if settings.authority == "builtin":
        ttl = settings.builtin_ca_ttl_seconds
        return Builtin(settings.builtin_dir, shared.trust_domain, ca_ttl_seconds=ttl, clock=clock)
    from canopy.identity import spire  # only where it is the authority: gRPC is large

    if settings.spire_socket:
        return spire.over_socket(Path(settings.spire_socket), shared.trust_domain)
    return spire.over_tls(settings.spire_address, Path(shared.identity_dir), shared.trust_domain)


def files_of(settings: Settings, shared: Shared, authority: Authority, clock: Clock) -> Files | None:
    """Those that are written here, if any."""
    if not settings.write_files_dir:
        return None
    names = tuple(settings.hub_dns.split())
    wants = wanted(shared.trust_domain, settings.unit_ttl_seconds, settings.hub_ttl_seconds, names)
    return Files(authority, Path(settings.write_files_dir), wants, clock)


@asynccontextmanager
async def prepared(shared: Shared) -> AsyncIterator[str]:
    """Before a process of this unit connects, by the seed that this gives: its own in CLOUD. Raises SettingsError."""
    settings = load(Settings)
    async with _written(shared, settings):
        yield keys_of(settings).cloud.seed


def keys_of(settings: Settings) -> HubKeys:
    """This unit's keys at the hub. Raises SettingsError."""
    try:
        return HubKeys.read(settings.keys_dir)
    except NoKeys as e:
        raise SettingsError(
            f"keys_dir (CANOPY_SPIRE_INTEGRATION_KEYS_DIR) is {str(settings.keys_dir)!r}: {e}"
        ) from None


@asynccontextmanager
async def _written(shared: Shared, settings: Settings) -> AsyncIterator[None]:
    clock = SystemClock()
    authority = authority_of(settings, shared, clock)
    files = files_of(settings, shared, authority, clock)
    if files is None:
        yield
        return
    keeping = asyncio.create_task(_keep(files, clock, settings.keep_seconds))
    try:
        while not (files.root / HUB / SVID_FILE).exists():
            await clock.sleep(FIRST_SECONDS)
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(files: Files, clock: Clock, seconds: float) -> None:
    say = once_per(SAY_AGAIN_SECONDS, clock.monotonic)
    while True:
        try:
            await files.turn()
        except (AuthorityAway, AuthorityRefused, OSError) as e:
            if say("files"):
                log.warning("the identities in %s cannot be kept: %s; trying on", files.root, e)
        except Exception:
            log.exception("the identities in %s", files.root)
        await clock.sleep(seconds)


async def _once() -> None:
    async with _written(load(Shared), load(Settings)):
        pass


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(_once())

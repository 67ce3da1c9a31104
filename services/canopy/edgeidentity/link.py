"""Whence the link's certificate comes, by the setting `source`: it ends as svid.pem and bundle.pem in one folder.

`prepare` runs it for as long as the process lives. The leaf reads the files, whoever wrote them.
"""

import asyncio
import logging
import sys
from pathlib import Path

from canopy.edgeidentity.folders import Folders
from canopy.edgeidentity.settings import Settings
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE
from canopy.identity.ids import SpiffeId
from canopy.identity.join import JoinSource
from canopy.identity.sources import Identity, write_identity
from canopy.runtime.clock import Clock

log = logging.getLogger("canopy.edgeidentity")
SAY_AGAIN_SECONDS = 60.0
HELPER = "canopy.identity.helper"
END_SECONDS = 5.0


async def there(folder: Path, source: str, clock: Clock, look_seconds: float) -> None:
    """Wait until a certificate of the link and its roots stand in `folder`; says so at once and every minute."""
    waited = 0.0
    while not ((folder / SVID_FILE).is_file() and (folder / BUNDLE_FILE).is_file()):
        if waited % SAY_AGAIN_SECONDS < look_seconds:
            log.warning("waiting for the link's certificate in %s: %s", folder, _hint(source))
        waited += look_seconds
        await clock.sleep(look_seconds)


def _hint(source: str) -> str:
    match source:
        case "join":
            return "let this machine join (canopy join URL --token ...)"
        case "files":
            return f"whoever issues it writes {SVID_FILE} (key and chain) and {BUNDLE_FILE} there"
    return "is this site's SPIRE agent up, and has it an entry for this process?"


async def bring(settings: Settings, folders: Folders, node: SpiffeId, clock: Clock) -> None:
    """Bring the files of `node` and renew them, until cancelled or until something fails."""
    match settings.source:
        case "join":
            await _joined(JoinSource(folders.join, clock=clock), folders.link)
        case "workload-api":
            await _helped(settings.workload_socket, folders.link, node)
        case "files":
            await asyncio.Event().wait()  # others write them


async def _joined(source: JoinSource, folder: Path) -> None:
    """What is kept is written at once, also when its time is over: the leaf starts with it, and serves the node."""
    if (kept := source.kept()) is not None:
        await asyncio.to_thread(_write, folder, kept)
    await asyncio.to_thread(_write, folder, await source.first())
    async for identity in source.changes():
        await asyncio.to_thread(_write, folder, identity)
    raise RuntimeError("the source of the link's certificate ended")


def _write(folder: Path, identity: Identity) -> None:
    write_identity(folder, identity)
    log.info("the link has another certificate", extra={"not_after": int(identity.svid.not_after)})


async def _helped(socket: Path, folder: Path, node: SpiffeId) -> None:
    """The Workload API in a process of its own: grpc is three times as big as this unit."""
    arguments = ("-m", HELPER, "--socket", str(socket), "--dir", str(folder), "--id", str(node))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL)
    try:
        raise RuntimeError(f"{HELPER} ended with {await process.wait()}")
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(END_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()

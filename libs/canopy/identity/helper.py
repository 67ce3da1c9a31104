"""Keeps identity files as the Workload API has them: `python -m canopy.identity.helper --socket S --dir D`.

A process of its own beside a cloud unit, the hub's server or edgeidentity (source `workload-api`), so that gRPC is in
none of these. With `--pid-file` it sends SIGHUP after each change: a nats-server reads its certificates anew then.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path

from canopy.identity import ids
from canopy.identity.identity import Identity, NoIdentity, read_identity, write_identity
from canopy.identity.ids import BadId, SpiffeId
from canopy.identity.sources import Source
from canopy.identity.workload import WorkloadApiSource

log = logging.getLogger("canopy.identity.helper")


async def keep(source: Source, folder: Path, pid_file: Path | None) -> None:
    """Write each identity that `source` gives, for ever; tell the process of `pid_file` of every one but an old one."""
    identity = await source.first()
    if _other_than(folder, identity):
        _put(folder, identity, pid_file)
    async for identity in source.changes():
        _put(folder, identity, pid_file)


def _other_than(folder: Path, identity: Identity) -> bool:
    """Whether the files hold another identity: a helper that starts anew disturbs nobody with the same one."""
    try:
        return read_identity(folder) != identity
    except NoIdentity:
        return True


def _put(folder: Path, identity: Identity, pid_file: Path | None) -> None:
    write_identity(folder, identity)
    left_seconds = identity.left_seconds(time.time())
    log.info("%s in %s, good for %.0f s more", identity.svid.id, folder, left_seconds)
    if pid_file is not None:
        _tell(pid_file)


def _tell(pid_file: Path) -> None:
    """SIGHUP to whom the file names; who is not there yet reads the files when it starts."""
    try:
        pid = int(pid_file.read_text())
        if pid > 1:
            os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError) as e:
        log.warning("nobody told of the new identity: %s: %s", pid_file, e)


def _id(text: str) -> SpiffeId:
    try:
        return ids.parse(text)
    except BadId as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("canopy.identity.helper", description="Workload API -> svid.pem and bundle.pem")
    parser.add_argument("--socket", type=Path, required=True, help="of the SPIRE agent")
    parser.add_argument("--dir", type=Path, required=True, help="where the two files are kept, 0600")
    parser.add_argument("--id", type=_id, help="the SPIFFE ID to take, where the agent offers several")
    parser.add_argument("--pid-file", type=Path, help="of a nats-server that is told to reload (SIGHUP)")
    return parser.parse_args(argv)


async def _until_told(work: asyncio.Task[None]) -> None:
    """Until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    for told in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(told, work.cancel)
    await asyncio.wait([work])
    if not work.cancelled():
        work.result()


async def run(argv: list[str]) -> None:
    asked = _arguments(argv)
    source = WorkloadApiSource(asked.socket.absolute(), id=asked.id)
    try:
        await _until_told(asyncio.ensure_future(keep(source, asked.dir, asked.pid_file)))
    finally:
        await source.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(run(sys.argv[1:]))

"""edgeidentity's admin socket as its client sees it, and unix sockets in deep folders. For the command line and the
Workload API server, on the node itself.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from canopy.contracts import admin as words
from canopy.contracts.admin import AdminAnswer, AdminAsk

ASK_SECONDS = 15.0
LONGEST_PATH_BYTES = 100
"""A unix socket's own limit is 107 on Linux, 103 on macOS."""


class AdminAway(Exception):
    """Nobody answers there; the text says what to look at."""


async def ask(socket: Path, question: AdminAsk, timeout: float = ASK_SECONDS) -> AdminAnswer:
    """Ask once. Raises AdminAway; what it refuses is in the answer."""
    try:
        async with asyncio.timeout(timeout):
            with short(socket) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=words.MOST_LINE_BYTES)
            try:
                writer.write(words.encode(question))
                await writer.drain()
                return words.read_answer(await reader.readline())
            finally:
                writer.close()
    except PermissionError:
        raise AdminAway(f"{socket}: only root and the user of edgeidentity may ask there: use sudo") from None
    except (FileNotFoundError, ConnectionRefusedError) as e:
        raise AdminAway(
            f"{socket}: {e.strerror}: does edgeidentity run on this node, and is this its socket?"
        ) from None
    except TimeoutError:
        raise AdminAway(f"{socket}: no answer within {timeout:g} s") from None
    except (OSError, ValueError, msgspec.MsgspecError) as e:
        raise AdminAway(f"{socket}: no answer that can be read ({e})") from None


@contextmanager
def short(path: Path) -> Iterator[str]:
    """A name for `path` that a unix socket can have, however deep its folder; good inside the block."""
    if len(os.fsencode(path)) <= LONGEST_PATH_BYTES:
        yield str(path)
        return
    if sys.platform != "linux" or len(os.fsencode(path.name)) > LONGEST_PATH_BYTES // 2:
        raise OSError(f"{path} is too long for a socket: choose a folder nearer to the root")
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

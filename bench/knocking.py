"""Whoever wants to come into a hub, many at once: raw leaves or clients, each with a certificate of its own.

`admissions.py` runs it as a process of its own, so that what it costs is seen apart; its lines are JSON. It joins
`--joined` of them, says so, waits for a line, and lets `--storm` more come, `--at-once` at a time.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from canopy.bus.rights import domain
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity
from canopy.identity.ids import SpiffeId
from canopy.identity.tls import client_context
from canopy.testing.child import HOST
from canopy.testing.domain import TD, minted

PATIENCE_SECONDS = 60.0
AGAIN_SECONDS = 0.5
UNITS = ("cloudhub", "devicecontroller", "edgecontroller", "cloud")


class Peer:
    """One that comes, and stays. `tries` is how often it had to."""

    def __init__(self, name: str, leaf: bool, identity: Identity) -> None:
        self._name, self._leaf, self.tries = name, leaf, 0
        self._context = client_context(identity, frozenset({ids.hub(TD)}))
        self._kept: tuple[asyncio.StreamWriter, asyncio.Task[None]] | None = None

    async def come(self, port: int) -> float:
        """Until it is in; how long that took in seconds."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if await self._tried(port):
                    return time.monotonic() - began
                await asyncio.sleep(AGAIN_SECONDS)

    def leave(self) -> None:
        if self._kept is not None:
            self._kept[1].cancel()
            self._kept[0].transport.abort()

    async def _tried(self, port: int) -> bool:
        self.tries += 1
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
            await reader.readline()
            await writer.start_tls(self._context)
            writer.write(self._words())
            if not await self._welcome(reader):
                writer.transport.abort()
                return False
        except OSError:
            return False
        self._kept = writer, asyncio.create_task(_stay(reader, writer))
        return True

    def _words(self) -> bytes:
        if self._leaf:
            says = {"version": "2.15.1", "server_id": self._name, "name": self._name, "headers": True, "protocol": 1}
            return f"CONNECT {json.dumps(says)}\r\nLS+ node.{domain(self._name)}.in.>\r\n".encode()
        says = {"lang": "raw", "version": "1", "name": self._name, "verbose": False, "protocol": 1}
        return f"CONNECT {json.dumps(says)}\r\nPING\r\n".encode()

    async def _welcome(self, reader: asyncio.StreamReader) -> bool:
        """A leaf is told its rights in an INFO once it is in, a client its PONG."""
        wanted = b"INFO" if self._leaf else b"PONG"
        while line := await reader.readline():
            if line.startswith((wanted, b"-ERR")):
                return line.startswith(wanted)
        return False


async def _stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        if line.startswith(b"PING"):
            writer.write(b"PONG\r\n")


async def _peers(authority: Builtin, leaf: bool, first: int, count: int) -> list[Peer]:
    made = []
    for number in range(first, first + count):
        name = f"edge-{number}"
        id: SpiffeId = ids.node(TD, name) if leaf else ids.cloud(TD, UNITS[number % len(UNITS)])
        made.append(Peer(name, leaf, await minted(authority, id)))
    return made


async def _all(peers: list[Peer], port: int, at_once: int) -> list[float]:
    slots = asyncio.Semaphore(at_once)

    async def one(peer: Peer) -> float:
        async with slots:
            return await peer.come(port)

    return await asyncio.gather(*map(one, peers))


async def _run(arguments: argparse.Namespace) -> None:
    authority, leaf = Builtin(arguments.authority, TD), arguments.kind == "leaf"
    joined = await _peers(authority, leaf, 0, arguments.joined)
    storm = await _peers(authority, leaf, arguments.joined, arguments.storm)
    await _all(joined, arguments.port, arguments.at_once)
    _say({"joined": len(joined)})
    await asyncio.to_thread(sys.stdin.readline)
    began, cpu = time.monotonic(), time.process_time()
    waited = await _all(storm, arguments.port, arguments.at_once)
    seconds = time.monotonic() - began
    _say({
        "seconds": seconds,
        "waited": waited,
        "tries": sum(peer.tries for peer in storm),
        "cpu_seconds": time.process_time() - cpu,
    })  # fmt: skip
    await asyncio.to_thread(sys.stdin.readline)
    for peer in (*joined, *storm):
        peer.leave()


def _say(found: dict[str, object]) -> None:
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--authority", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", choices=("leaf", "client"), default="leaf")
    parser.add_argument("--joined", type=int, default=1000)
    parser.add_argument("--storm", type=int, default=1500)
    parser.add_argument("--at-once", type=int, default=100)
    asyncio.run(_run(parser.parse_args()))

"""JetStream's API, as JSON over requests: what nats-py has no fast or exact call for. Used by streams and gateway."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import msgspec
from nats.aio.msg import Msg

from canopy.bus.bus import Bus
from canopy.bus.outcome import AskTimeout, NoResponders

API = "$JS.API"
TRIES_SECONDS = (1.0, 1.5, 2.5)
"""How long each try of a call waits. In a clustered hub a call that comes while a stream has no leader is answered by
nobody, ever: so it is asked again, and sooner than the caller gives up."""
UNSERVED_SECONDS, UNSERVED_LOOK_SECONDS = 2.0, 0.05
"""A server that reads its configuration again (its certificate is a new one) serves no call until it has asked the
callout about everybody who is connected; and a stream that was just made is known later to the other servers of a hub
than to who made it."""
NOT_FOUND = (10059, 10014, 10037)  # stream, consumer, message
WRONG_SEQUENCE = (10071, 10164)
NAME_IN_USE = (10058, 10148)


class StreamError(Exception):
    """JetStream refused. `code` is its err_code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"JetStream: {text} ({code})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the reply subject of a delivered message says: sequences, time in ns, how many are to come."""

    seq: int
    delivered: int
    time_ns: int
    pending: int


def metadata(reply: str) -> Metadata:
    """Read `$JS.ACK...`, in its short (9 tokens) or long form."""
    tokens = reply.split(".")
    at = 5 if len(tokens) == 9 else 7
    return Metadata(int(tokens[at]), int(tokens[at + 1]), int(tokens[at + 2]), int(tokens[at + 3]))


async def call(
    bus: Bus, verb: str, body: dict[str, Any] | None = None, tries: tuple[float, ...] = TRIES_SECONDS
) -> dict[str, Any]:
    """One API call, asked again when nobody answers: what is called here may be repeated. Raises StreamError,
    AskFailed."""
    data = json.dumps(body).encode() if body else b""
    *early, last = tries
    for seconds in early:
        try:
            return checked(await served(bus, f"{API}.{verb}", data, seconds))
        except AskTimeout:
            pass
    return checked(await served(bus, f"{API}.{verb}", data, last))


async def served(bus: Bus, subject: str, data: bytes, seconds: float, headers: dict[str, str] | None = None) -> Msg:
    """Ask; if nobody serves it though there is a connection, again for a moment: nobody has had it."""
    loop = asyncio.get_running_loop()
    until = loop.time() + UNSERVED_SECONDS
    while True:
        try:
            return await bus.request(subject, data, headers or {}, seconds)
        except NoResponders:
            if not bus.connection.connected or loop.time() > until:
                raise
        await asyncio.sleep(UNSERVED_LOOK_SECONDS)


class _Written(msgspec.Struct):
    """The answer to a write; what else stands in it is passed over."""

    seq: int | None = None
    error: dict[str, Any] | None = None


_WRITTEN = msgspec.json.Decoder(_Written)


def written(answer: Msg) -> int:
    """The sequence that a write was given: as `checked`, without building the rest. Raises StreamError."""
    found = _WRITTEN.decode(answer.data)
    if found.error is not None:
        raise _failure(found.error)
    if found.seq is None:
        raise StreamError(0, "a write was answered without its sequence")
    return found.seq


def checked(answer: Msg) -> dict[str, Any]:
    """The answer's JSON, unless it is an error."""
    found: dict[str, Any] = json.loads(answer.data)
    if "error" in found:
        raise _failure(found["error"])
    return found


def _failure(error: dict[str, Any]) -> StreamError:
    return StreamError(int(error.get("err_code", error.get("code", 0))), str(error.get("description", "")))


async def ensure_stream(bus: Bus, config: dict[str, Any], tries: tuple[float, ...] = TRIES_SECONDS) -> dict[str, Any]:
    """Create the stream, or bring an existing one to this configuration; returns its info."""
    name = config["name"]
    try:
        return await call(bus, f"STREAM.CREATE.{name}", config, tries)
    except StreamError as e:
        if e.code not in NAME_IN_USE:
            raise
    return await call(bus, f"STREAM.UPDATE.{name}", config, tries)

"""The sessions of nodes: numbers that only rise, by compare-and-set in the stream SESSIONS (RULES 13, 14).

`handlers` opens one at hello and asks for it at everything else. `Nonces` is what pushes go by.
"""

import logging
from collections.abc import Callable

import msgspec

from canopy.bus.streams import Value, WrongSequence
from canopy.cloudhub.records import Records, Stream
from canopy.contracts.catalogue import SESSIONS
from canopy.contracts.wire import Hello, Session, encode
from canopy.runtime.clock import Clock
from canopy.sync.up import Stamp, next_session

log = logging.getLogger("canopy.cloudhub")
TRIES = 8
NONE = Session(session=0, nonce="")
_DECODER = msgspec.json.Decoder(Session)


class Contended(Exception):
    """Others open sessions of this node just now, again and again."""


class Late(Exception):
    """The same run of the same EdgeHub has said a later hello, and nobody waits for an answer to this one."""


class Sessions:
    """`nonce` makes the unguessable word of a session's pushes."""

    def __init__(self, stream: Stream, records: Records, clock: Clock, nonce: Callable[[], str]) -> None:
        self._stream, self._records, self._clock, self._nonce = stream, records, clock, nonce

    async def current(self, node: str) -> Session | None:
        """The node's session, from the stream's leader."""
        value = await self._stream.get(SESSIONS.at(node=node))
        return None if value is None else readable(value)

    async def open(self, node: str, hello: Hello, protocol: int) -> Session:
        """A new session, above all that were. Raises Contended, Late."""
        address = SESSIONS.at(node=node)
        for _ in range(TRIES):
            last = await self._stream.get(address)
            was = readable(last) if last else NONE
            if hello.edge and hello.edge == was.edge and hello.n <= was.hello:
                raise Late(f"hello {hello.n} of {node} comes after {was.hello}")
            number = next_session(was.session, self._clock.now_ms(), hello.seen, await self._stamps(node))
            session = Session(
                session=number,
                nonce=self._nonce(),
                protocol=protocol,
                version=hello.version,
                labels=hello.labels,
                capacity=hello.capacity,
                edge=hello.edge,
                hello=hello.n,
            )
            try:
                await self._stream.put(address, encode(session), last.seq if last else 0)
            except WrongSequence:
                continue
            return session
        raise Contended(node)

    async def _stamps(self, node: str) -> list[Stamp]:
        """Of the node's records: the view's, which holds too much rather than too little, or else the stream's."""
        view = self._records.view
        if not view.caught_up:
            return [record.stamp for record, _ in (await self._records.of(node)).values()]
        return view.stamps(node)


class Nonces:
    """The nonce of each node's session as the stream tells it; one that is behind loses a push, which a page mends."""

    def __init__(self) -> None:
        self._nonces: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._nonces)

    def reset(self) -> None:
        self._nonces.clear()

    def take(self, value: Value) -> None:
        tokens, session = SESSIONS.tokens(value.subject), readable(value)
        if tokens is not None and session.nonce:
            self._nonces[tokens["node"]] = session.nonce

    def of(self, node: str) -> str:
        """Empty if the node has no session."""
        return self._nonces.get(node, "")


def readable(value: Value) -> Session:
    """The session; what is not ours counts as none."""
    try:
        return _DECODER.decode(value.data)
    except msgspec.DecodeError:
        log.warning("what %s holds is no session", value.subject)
        return NONE

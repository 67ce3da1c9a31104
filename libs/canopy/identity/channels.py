"""How a gRPC server is reached, bounded: by a unix socket, or by mTLS as the identity in a folder. `spire` calls it."""

import asyncio
from pathlib import Path
from typing import Protocol

from grpc import aio

from canopy.identity.authority import AuthorityAway
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE, NoIdentity
from canopy.identity.ids import SpiffeId
from canopy.identity.svid import BadSvid
from canopy.identity.tls import Rotating, client_context
from canopy.identity.tunnel import Tunnel

GRACE_SECONDS = 5.0
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own
)


class Channels(Protocol):
    """The channel to use now. `says`: to whom, for people; `fault`: why it was not reached, as far as gRPC hides it."""

    says: str

    @property
    def fault(self) -> str: ...

    async def channel(self) -> aio.Channel: ...

    async def close(self) -> None: ...


class Socket:
    """By a unix socket of this machine: the file's rights say who may."""

    fault = ""

    def __init__(self, path: Path) -> None:
        self.says = f"unix:{path}"
        self._channel: aio.Channel | None = None

    async def channel(self) -> aio.Channel:
        if self._channel is None:
            self._channel = aio.insecure_channel(self.says, options=_OPTIONS)
        return self._channel

    async def close(self, grace_seconds: float = 0.0) -> None:
        if self._channel is not None:
            await self._channel.close(grace_seconds)
        self._channel = None


class Tls:
    """By `host:port`, as the identity in `folder`, to whom `peer` names; anew whenever the files have changed."""

    def __init__(self, address: str, folder: Path, peer: SpiffeId) -> None:
        self.says = address
        self._folder, self._peer = folder, peer
        self._context: Rotating | None = None
        self._tunnel: Tunnel | None = None
        self._socket: Socket | None = None
        self._seen: tuple[int, ...] = ()
        self._beginning = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def fault(self) -> str:
        return self._tunnel.fault if self._tunnel else ""

    async def channel(self) -> aio.Channel:
        async with self._beginning:
            try:
                seen = tuple((self._folder / name).stat().st_mtime_ns for name in (SVID_FILE, BUNDLE_FILE))
                if seen != self._seen:
                    await self._begin()
                    self._seen = seen
            except (OSError, NoIdentity, BadSvid) as e:
                raise AuthorityAway(f"no identity to show to {self.says}: {e}") from None
        assert self._socket is not None
        return await self._socket.channel()

    async def _begin(self) -> None:
        """Connections from now on show what is in the files now; what is being answered goes on."""
        if self._context is None:
            self._context = client_context(self._folder, {self._peer}, ("h2",))
        else:
            self._context.renew(self._folder)
        if self._tunnel is None:
            host, _, port = self.says.rpartition(":")
            tunnel = Tunnel(host.strip("[]"), int(port), self._context)
            await tunnel.open()
            self._tunnel = tunnel
        old, self._socket = self._socket, Socket(self._tunnel.socket)
        if old is not None:
            task = asyncio.ensure_future(old.close(GRACE_SECONDS))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        for task in self._ending:
            task.cancel()
        if self._socket is not None:
            await self._socket.close()
        if self._tunnel is not None:
            await self._tunnel.close()

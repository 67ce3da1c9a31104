"""Who comes to a nats-server, and whom it turns away: the server's own words, over its system account. edgeidentity
hears them of its leaf, for the audit.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
from nats.aio.msg import Msg

from canopy.bus.connection import Connection

log = logging.getLogger("canopy.bus")
LINK = "Leafnode"
"""Kind of the server's own connection to the hub: nobody who comes."""
CAME, REFUSED = "$SYS.ACCOUNT.{account}.CONNECT", "$SYS.SERVER.*.CLIENT.AUTH.ERR"
MOST_REMEMBERED = 10_000


class Client(msgspec.Struct, frozen=True):
    """`user` is whom it was let in as, empty for who was refused; `client_type` is nats or mqtt."""

    id: int = 0
    host: str = ""
    user: str = ""
    client_type: str = ""
    kind: str = ""


class _Server(msgspec.Struct):
    id: str = ""


class _Event(msgspec.Struct):
    client: Client = msgspec.field(default_factory=Client)
    server: _Server = msgspec.field(default_factory=_Server)


_EVENT = msgspec.json.Decoder(_Event)


class Comings:
    """`async with` hears. A server says of everybody who stays again that they came, when it has read its
    configuration: each connection is told of once."""

    def __init__(
        self, connection: Connection, account: str, came: Callable[[Client], None], refused: Callable[[Client], None]
    ) -> None:
        self._connection, self._account, self._came, self._refused = connection, account, came, refused
        self._known: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._subscriptions: list[Any] = []

    async def __aenter__(self) -> "Comings":
        subscribe = self._connection.subscribe
        self._subscriptions.append(await subscribe(CAME.format(account=self._account), self._on_came))
        self._subscriptions.append(await subscribe(REFUSED, self._on_refused))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection.connected:
            for subscription in self._subscriptions:
                await subscription.unsubscribe()

    async def _on_came(self, message: Msg) -> None:
        if (event := _read(message)) is None or event.client.kind == LINK:
            return
        if (key := (event.server.id, event.client.id)) in self._known:
            return
        self._known[key] = None
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        self._came(event.client)

    async def _on_refused(self, message: Msg) -> None:
        if (event := _read(message)) is not None:
            self._refused(event.client)


def _read(message: Msg) -> _Event | None:
    try:
        return _EVENT.decode(message.data)
    except msgspec.MsgspecError as e:
        log.warning("%s: %s", message.subject, e)
        return None

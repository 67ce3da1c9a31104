"""What edgeidentity opens to devices and to people of this machine: the admin socket, the fronts. `unit` makes it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from canopy.contracts.wire import Name
from canopy.edgeidentity import front_judge
from canopy.edgeidentity.admin import AdminSocket
from canopy.edgeidentity.admin_desk import Desk, Places
from canopy.edgeidentity.folders import Folders
from canopy.edgeidentity.front import Counts, Front, Judge
from canopy.edgeidentity.front_connect import Connect
from canopy.edgeidentity.front_gateway import Gateway
from canopy.edgeidentity.front_judge import Admitted, Refused
from canopy.edgeidentity.provision_book import Book
from canopy.edgeidentity.roster import Roster
from canopy.edgeidentity.settings import Settings
from canopy.edgeidentity.slots import LEAF
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.ids import SpiffeId
from canopy.identity.sources import FileSource
from canopy.identity.tls import Rotating, server_context
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock
from canopy.runtime.health import Health, Metrics
from canopy.runtime.settings import host_and_port, is_loopback

log = logging.getLogger("canopy.edgeidentity")
PLAIN_CHECK = "plain-mqtt"
HERE = "localhost"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Of one node."""

    td: str
    node: str
    folders: Folders
    settings: Settings

    @property
    def host(self) -> str:
        """By which name a device reaches this node: one that the leaf's certificate bears."""
        names = self.settings.leaf_names.split()
        return names[0] if names else HERE if is_loopback(self.settings.mqtt_listen) else self.node

    @property
    def admin(self) -> Path:
        """The admin socket."""
        given = self.settings.admin_socket
        return self.folders.root / "admin.sock" if given == Path() else given

    @property
    def book(self) -> Path:
        """What devices and apps were given."""
        return self.folders.root / "devices.json"

    @property
    def gateway(self) -> tuple[str, int]:
        """Where the front itself finds the gateway."""
        host, port = host_and_port(self.settings.mqtt_listen)
        return ("127.0.0.1" if host in ("0.0.0.0", "::") else host), port  # noqa: S104

    def apps(self, book: Book, now: int) -> list[tuple[str, SpiffeId]]:
        """Guests that are no devices: workloads, and (without a name) the plain port."""
        plain = [("", front_judge.plain_id(self.td, self.node))] if self.settings.plain_listen else []
        return [*book.apps(now), *plain]


class Doors:
    """`async with doors.opened():` serves until the block ends."""

    def __init__(
        self,
        here: Whereabouts,
        authority: Builtin,
        roster: Roster,
        book: Book,
        audit: AuditLog,
        clock: Clock,
        health: Health,
        metrics: Metrics,
        settled: Callable[[], Awaitable[bool]],
    ) -> None:
        self._here, self._authority, self._roster, self._book = here, authority, roster, book
        self._audit, self._clock, self._health, self._settled = audit, clock, health, settled
        self._counts = Counts(
            metrics.gauge("canopy_edgeidentity_front_connections"),
            metrics.counter("canopy_edgeidentity_front_admitted_total"),
            metrics.counter("canopy_edgeidentity_front_refused_total"),
        )
        leaf = ids.local(here.td, here.node, LEAF)
        self._gateway = Gateway(authority, here.gateway, leaf, here.settings.svid_ttl_seconds, clock)
        self._fronts: list[Front] = []
        self._looks: set[asyncio.Task[None]] = set()
        self.front_port = self.plain_port = 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Raises OSError that says which setting names the address."""
        settings = self._here.settings
        async with AsyncExitStack() as stack:
            if settings.front_listen:
                self.front_port = await self._front(stack)
            if settings.plain_listen:
                self.plain_port = await self._plain(stack)
            await stack.enter_async_context(AdminSocket(self._here.admin, self._desk().handle, self._audit))
            yield

    def _desk(self) -> Desk:
        here = self._here
        port = host_and_port(here.settings.mqtt_listen)[1]
        places = Places(here.host, port, here.host, self.front_port)
        return Desk(
            here.td, here.node, self._authority, self._roster, self._book, self._audit, self._clock, places,
            self._changed, self._settled,
        )  # fmt: skip

    async def _front(self, stack: AsyncExitStack) -> int:
        source = FileSource(self._here.folders.leaf, clock=self._clock)
        tls = server_context(await source.first(), None)
        renewing = asyncio.create_task(_renewed(source, tls))
        stack.callback(renewing.cancel)
        front = self._made("token", self._here.settings.front_listen, tls, self._by_token)
        await stack.enter_async_context(_told(front, "front_listen (CANOPY_EDGEIDENTITY_FRONT_LISTEN)"))
        log.info("devices with a password are let in", extra={"host": front.host, "port": front.port})
        return front.port

    async def _plain(self, stack: AsyncExitStack) -> int:
        front = self._made("plain", self._here.settings.plain_listen, None, self._as_anybody)
        await stack.enter_async_context(_told(front, "plain_listen (CANOPY_EDGEIDENTITY_PLAIN_LISTEN)"))
        words = f"MQTT without TLS and password at {front.host}:{front.port}: whoever is on this machine is any device"
        log.warning(words)
        self._health.set(PLAIN_CHECK, True, words)
        return front.port

    def _made(self, how: str, listen: str, tls: Rotating | None, judge: Judge) -> Front:
        most, gateway = self._here.settings.front_connections, self._gateway
        front = Front(
            how, host_and_port(listen), tls, judge, self._still, gateway, most, self._clock, self._audit, self._counts
        )
        self._fronts.append(front)
        return front

    def _by_token(self, connect: Connect) -> Admitted | Refused:
        return front_judge.by_token(connect, self._book, self._roster.listed, self._clock.now_ms())

    def _as_anybody(self, connect: Connect) -> Admitted | Refused:
        return front_judge.plain(connect, self._here.td, self._here.node)

    def _still(self, admitted: Admitted) -> bool:
        return front_judge.still(admitted, self._book)

    def _changed(self, name: Name | None) -> None:
        """A device or an app has other credentials: the leaf and the fronts are to know."""
        self._roster.look()
        if name is not None:
            task = asyncio.create_task(self._looked(name))
            self._looks.add(task)
            task.add_done_callback(self._looks.discard)

    async def _looked(self, name: Name) -> None:
        for front in self._fronts:
            await front.look(name)


@asynccontextmanager
async def _told(front: Front, setting: str) -> AsyncIterator[None]:
    try:
        await front.__aenter__()
    except OSError as e:
        raise OSError(e.errno, f"{setting}: {front.host}:{front.port}: {e.strerror}") from e
    try:
        yield
    finally:
        await front.__aexit__(None, None, None)


async def _renewed(source: FileSource, tls: Rotating) -> None:
    async for identity in source.changes():
        tls.renew(identity)

"""A hub that believes the built-in authority, replicas of spire_integration in this process, and who wants in: raw NATS
clients with any certificate, and real leaves. What the unit's tests with servers open.
"""

import asyncio
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from canopy.bus import Bus, Connection
from canopy.bus.environment import Environment
from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.bus.streams import LastValues
from canopy.bus.system import System
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import AuditRecord, RevokeAsk
from canopy.identity import ids
from canopy.identity.authority import Authority
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity
from canopy.identity.sources import FileSource
from canopy.identity.svid import Svid, make_csr, new_key
from canopy.runtime.clock import SystemClock
from canopy.runtime.health import Health
from canopy.runtime.settings import Shared
from canopy.runtime.telemetry import Telemetry
from canopy.spire_integration.prepare import files_of
from canopy.spire_integration.settings import Settings
from canopy.spire_integration.unit import NAME, SpireIntegration
from canopy.testing.child import free_port
from canopy.testing.domain import TD
from canopy.testing.processes import Process
from canopy.testing.servers import HOST
from canopy.testing.wait import until
from canopy.testing.world import World, open_world, running


@dataclass
class Fleet:
    """`shared` and `settings` are what each replica gets; `world` has nodes and leaves."""

    world: World
    authority: Authority
    shared: Shared
    settings: Settings

    @asynccontextmanager
    async def replica(self, **settings):
        """A replica that has started; its Environment."""
        async with AsyncExitStack() as stack:
            env = await self.environment(stack)
            await stack.enter_async_context(running(self.unit(env, **settings)))
            yield env

    def unit(self, env: Environment, **settings) -> SpireIntegration:
        given = self.settings.model_copy(update=settings)
        return SpireIntegration(env, given, self.world.keys, self.authority, SystemClock())

    def process(self, name: str) -> Process:
        """A replica as a process of its own, not started."""
        port, s, prefix = free_port(), self.settings, "CANOPY_SPIRE_INTEGRATION_"
        own = {
            "CANOPY_NATS_URL": self.shared.nats_url,
            "CANOPY_IDENTITY_DIR": self.shared.identity_dir,
            "CANOPY_TRUST_DOMAIN": TD,
            "CANOPY_DATA_DIR": str(self.world.folder / name),
            "CANOPY_HEALTH_LISTEN": f"{HOST}:{port}",
            f"{prefix}KEYS_DIR": str(s.keys_dir),
            f"{prefix}BUILTIN_DIR": str(s.builtin_dir),
            f"{prefix}WRITE_FILES_DIR": s.write_files_dir,
            f"{prefix}JOIN_LISTEN": s.join_listen,
        }
        log = self.world.folder / f"{name}.log"
        made = Process(name, ["canopy.launch", NAME], log, own, port)
        self.world.stack.push_async_callback(made.kill)
        return made

    async def environment(self, stack: AsyncExitStack) -> Environment:
        connection = await Connection.open(
            self.shared.nats_url,
            name=NAME,
            nkey_seed=self.world.keys.cloud.seed,
            identity=FileSource(Path(self.shared.identity_dir)),
            expected=frozenset({ids.hub(TD)}),
        )
        stack.push_async_callback(connection.close)
        return Environment(self.shared, connection, Telemetry(NAME, enabled=False), Health(NAME))

    async def system(self) -> System:
        """The hub's servers, asked over a connection of the test's own."""
        connection = await self.world.at_hub(NAME, self.world.keys.sys)
        return await self.world.stack.enter_async_context(System(connection))

    async def identity(self, id, ttl_seconds: float = 600.0) -> Identity:
        key = new_key()
        made = await self.authority.mint(make_csr(key, id), id, ttl_seconds=ttl_seconds)
        return Identity(Svid.of(made.chain_pem, key), await self.authority.bundle())

    async def knock(self, identity: Identity | None, bundle=None, seconds: float = 8.0) -> "Guest":
        """Whoever comes with this certificate, as a NATS client, and what the hub says to that."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if identity is not None:
            file = self.world.folder / "knocks.pem"
            file.write_bytes(identity.svid.pem)
            context.load_cert_chain(file)
        return await Guest.come(self.world.hub.servers[0].ports[0], context, seconds)

    async def audit(self, env: Environment, **like) -> AuditRecord:
        """The first record in the stream that has all these; waits for it. A text need only be in it."""

        async def found():
            try:
                values = await LastValues(env.bus(NAME), "AUDIT").under(c.AUDIT.wild())
            except (AskFailed, StreamError, TimeoutError):  # it is still being made, or its server is busy
                return None
            for value in values:
                record = msgspec.json.decode(value.data, type=AuditRecord)
                if all(_fits(getattr(record, name), wanted) for name, wanted in like.items()):
                    return record
            return None

        return await until(found)

    async def revoke(self, bus: Bus, node: str, restore: bool = False) -> None:
        ask = RevokeAsk(node=node, by="an operator", reason="stolen", restore=restore)
        answer = await bus.ask(c.IDENTITY_REVOKE, ask, timeout=5)
        assert answer.verdict == "ok", answer


def _fits(found, wanted) -> bool:
    return wanted in found if isinstance(wanted, str) else found == wanted


@dataclass
class Guest:
    """A raw client of NATS. `said` is what the hub said to its CONNECT: PONG, an error, or nothing."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    said: str = ""

    @classmethod
    async def come(cls, port: int, context: ssl.SSLContext, seconds: float) -> "Guest":
        reader, writer = await asyncio.open_connection(HOST, port)
        self = cls(reader, writer)
        try:
            async with asyncio.timeout(seconds):
                await reader.readline()
                await writer.start_tls(context)
                writer.write(
                    b'CONNECT {"verbose":false,"pedantic":false,"lang":"raw","version":"1","protocol":1}\r\nPING\r\n'
                )
                self.said = (await self.line()).strip()
        except (OSError, TimeoutError) as e:
            self.said = repr(e)
        return self

    async def line(self) -> str:
        """The next one that is no INFO or PING; '' at the end."""
        while True:
            line = (await self.reader.readline()).decode()
            if line.startswith("PING"):
                self.writer.write(b"PONG\r\n")
            elif not line.startswith("INFO"):
                return line

    @property
    def is_in(self) -> bool:
        return self.said == "PONG"

    async def still_in(self) -> bool:
        self.writer.write(b"PING\r\n")
        return (await self.line()).strip() == "PONG"

    def leave(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def open_fleet(folder: Path, servers: int = 1, authority: Authority | None = None, **settings):
    """A hub without anybody who answers its callout yet; the built-in authority unless another is given."""
    root = folder / "files"
    given = Settings(
        keys_dir=folder / "keys",
        builtin_dir=folder / "authority",
        write_files_dir=str(root),
        keep_seconds=0.3,
        join_listen=f"{HOST}:0",
        **settings,
    )
    identity_dir = str(root / "cloud" / NAME)
    authority = authority or Builtin(folder / "authority", TD)
    await files_of(given, Shared(trust_domain=TD), authority, SystemClock()).turn()
    async with open_world(folder, servers, answers=None, hub_files=root / "hub") as world:
        url = world.hub.client_url
        shared = Shared(nats_url=url, identity_dir=identity_dir, trust_domain=TD, data_dir=folder)
        yield Fleet(world, authority, shared, given)

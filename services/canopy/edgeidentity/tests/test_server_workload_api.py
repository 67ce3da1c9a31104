"""The Workload API of a node as a process of its own, asked by the real `spire-agent api fetch`, by our own source, and
by whoever knocks with anything else.
"""

import asyncio
import os
import random
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from grpc import StatusCode, aio

from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import AuditBatch
from canopy.contracts.wire import Verdict
from canopy.identity.identity import Identity
from canopy.identity.proto import workload_pb2 as api
from canopy.identity.svid import verify_chain
from canopy.identity.workload import FETCH, HEADER, WorkloadApiSource
from canopy.runtime.clock import SystemClock
from canopy.testing import spire
from canopy.testing.child import Child
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("edgeidentity")]
ME = f"uid = {os.getuid()}\n"
CAMERA = f'[[app]]\nname = "camera"\n{ME}'
PROGRAM = os.path.realpath(sys.executable)
BUNDLES = "/SpiffeWorkloadAPI/FetchX509Bundles"


class Server(Child):
    """The process."""

    def __init__(self, folder: Path) -> None:
        self.socket, self.rules = folder / "workload.sock", folder / "workloads.toml"
        environment = {**os.environ, "CANOPY_DATA_DIR": str(folder)}
        super().__init__((sys.executable, "-m", "canopy.identity.workload_server"), environment, folder / "api.log")

    async def ready(self) -> None:
        await until(lambda: self.socket.is_socket() or not self.running)

    @property
    def resident_bytes(self) -> int:
        assert self._process is not None
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")


@asynccontextmanager
async def served(open_node: Any) -> AsyncIterator[tuple[Any, Server, list[Any]]]:
    node, audit = await open_node(), list[Any]()
    hub = await node.bus("edgehub")

    async def take(batch: AuditBatch, place: Any) -> Verdict:
        audit.extend(batch.records)
        return Verdict()

    await hub.serve(c.HUB_AUDIT, take)
    await node.meta.set()
    await node.start("edgeidentity", "devicetwin")
    await node.opened()
    server = Server(node.directory)
    server.rules.write_text(CAMERA)
    await server.start()
    try:
        yield node, server, audit
    finally:
        await server.kill()


async def called(server: Server, path: str, answer: Any, *metadata: tuple[str, str], body: bytes = b"") -> Any:
    """The first answer, or the status."""
    async with aio.insecure_channel(f"unix:{server.socket}", (("grpc.default_authority", "localhost"),)) as channel:
        call = channel.unary_stream(path)(body, metadata=list(metadata), timeout=10)
        try:
            return answer.FromString(await call.read())
        except aio.AioRpcError as e:
            return e.code()


async def test_an_app_gets_what_the_rules_say_and_no_more_and_each_change_of_it(open_node: Any) -> None:
    async with served(open_node) as (node, server, audit):
        await _by_our_source(node, server)
        answer = await called(server, FETCH, api.X509SVIDResponse, HEADER)
        assert [one.spiffe_id for one in answer.svids] == [app(node, "camera")]
        found = await called(server, BUNDLES, api.X509BundlesResponse, HEADER)
        assert list(found.bundles) == [f"spiffe://{domain(node)}"]
        assert found.bundles[f"spiffe://{domain(node)}"] == answer.svids[0].bundle

        assert await called(server, FETCH, api.X509SVIDResponse) is StatusCode.INVALID_ARGUMENT
        assert await called(server, FETCH, api.X509SVIDResponse, (HEADER[0], "yes")) is StatusCode.INVALID_ARGUMENT
        unknown = "/SpiffeWorkloadAPI/FetchJWTSVID"
        assert await called(server, unknown, api.X509SVIDResponse, HEADER) is StatusCode.UNIMPLEMENTED

        server.rules.write_text(f'{CAMERA}[[app]]\nname = "video"\npath = "{PROGRAM}"\n')
        answer = await called(server, FETCH, api.X509SVIDResponse, HEADER)
        await until(lambda: _offered(server, [app(node, "camera"), app(node, "video")]))
        server.rules.write_text("[[app]]\nname = 'camera'\nuid = 4242\n")
        assert await called(server, FETCH, api.X509SVIDResponse, HEADER) is StatusCode.PERMISSION_DENIED
        server.rules.write_text("[[app]")
        assert await called(server, FETCH, api.X509SVIDResponse, HEADER) is StatusCode.PERMISSION_DENIED

        await until(lambda: {r.outcome for r in audit if r.what == "workload"} == {"ok", "refused"})
        audit[:] = [r for r in audit if r.what == "workload"]
        given = [r for r in audit if r.outcome == "ok"]
        assert {r.who for r in given} == {app(node, "camera"), app(node, "video")}
        assert all(r.what == "workload" and r.serial and ("uid" in r.reason or "path" in r.reason) for r in given)
        (refused,) = [r for r in audit if r.outcome == "refused"]
        assert refused.who.startswith(f"uid {os.getuid()} ") and refused.reason == "no rule fits"


async def _by_our_source(node: Any, server: Server) -> None:
    source = WorkloadApiSource(server.socket)
    async with asyncio.timeout(20):
        identity = await source.first()
    await source.close()
    assert str(identity.svid.id) == app(node, "camera")
    await _hears_documents_only(node, identity)
    assert verify_chain(identity.svid.chain_pem, identity.bundle, SystemClock().now_ms() / 1000) == identity.svid.id


async def _hears_documents_only(node: Any, identity: Identity) -> None:
    """What an app may at the leaf: no more than to hear."""
    pem = node.directory / "app.pem"
    pem.write_bytes(identity.svid.pem)
    tls = ssl.create_default_context(cafile=str(node.folders.leaf / "bundle.pem"))
    tls.load_cert_chain(pem)
    async with aiomqtt.Client("localhost", node.mqtt_port, tls_context=tls) as client:
        (document,) = await client.subscribe("$hw/events/device/+/+/twin/update/document")
        (update,) = await client.subscribe("$hw/events/device/+/+/twin/update")
    assert not document.is_failure and update.is_failure


async def _offered(server: Server, names: list[str]) -> bool:
    answer = await called(server, FETCH, api.X509SVIDResponse, HEADER)
    return isinstance(answer, api.X509SVIDResponse) and [one.spiffe_id for one in answer.svids] == names


@pytest.mark.spire
async def test_the_real_spire_agents_client_fetches_and_verifies_it(open_node: Any) -> None:
    if (programs := spire.programs()) is None:
        pytest.skip(spire.MISSING)
    async with served(open_node) as (node, server, _):
        folder = node.directory / "fetched"
        folder.mkdir()
        client, patient = programs / "spire-agent", ("-socketPath", server.socket, "-timeout", "20s")
        command = [client, "api", "fetch", "x509", *patient, "-write", folder]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stdout + done.stderr
        assert app(node, "camera") in done.stdout
        assert {p.name for p in folder.iterdir()} >= {"svid.0.pem", "svid.0.key", "bundle.0.pem"}
        verify = ["openssl", "verify", "-CAfile", folder / "bundle.0.pem", folder / "svid.0.pem"]
        assert (await asyncio.to_thread(subprocess.run, verify, capture_output=True, timeout=30)).returncode == 0
        watch = [client, "api", "validate", "jwt", *patient, "-audience", "a", "-svid", "x"]
        refused = await asyncio.to_thread(subprocess.run, watch, capture_output=True, text=True, timeout=30)
        assert refused.returncode and "nimplemented" in refused.stderr + refused.stdout


async def test_whatever_knocks_is_ended_and_the_next_one_is_served_with_no_more_memory(open_node: Any) -> None:
    async with served(open_node) as (node, server, _):
        await until(lambda: _offered(server, [app(node, "camera")]))
        rng, before = random.Random(7), server.resident_bytes
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        for n in range(300):
            noise = rng.randbytes(rng.choice([1, 40, 4000, 60_000]))
            await _knock(server, preface + noise if n % 2 else noise)
        for body in (rng.randbytes(3000), b"\xff" * 4000, rng.randbytes(20_000)):
            assert await called(server, FETCH, api.X509SVIDResponse, HEADER, body=body) is not None
        crowd = [await asyncio.open_unix_connection(str(server.socket)) for _ in range(60)]
        assert sum([await _ended(reader) for reader, _ in crowd]) >= 28, "no user takes all places"
        for _, writer in crowd:
            writer.close()
        await until(lambda: _offered(server, [app(node, "camera")]))
        assert server.running and server.resident_bytes < before + 30 * 1024 * 1024


async def _knock(server: Server, noise: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(server.socket))
    try:
        writer.write(noise)
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(5):
            await reader.read(100)
    except (OSError, TimeoutError):
        pass
    finally:
        writer.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    """Whether it was turned away at once; else the server greets."""
    try:
        async with asyncio.timeout(3):
            return not await reader.read(1)
    except (OSError, TimeoutError):
        return True


def domain(node: Any) -> str:
    return f"{node.shared.node_name}.{node.shared.trust_domain}"


def app(node: Any, name: str) -> str:
    return f"spiffe://{domain(node)}/app/{name}"

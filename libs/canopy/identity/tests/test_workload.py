"""How SPIFFE packs certificates, and a Workload API that misbehaves (a real gRPC server in this process)."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding
from grpc import aio, method_handlers_generic_handler, unary_stream_rpc_method_handler
from hypothesis import given, settings
from hypothesis import strategies as st

from canopy.identity import ids, keys, workload
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity
from canopy.identity.proto import workload_pb2 as api
from canopy.identity.svid import BadSvid, Svid, certificates, make_csr, new_key
from canopy.identity.workload import WorkloadApiSource, packed
from canopy.testing.wait import until

TD = "canopy.test"
UNIT, OTHER = ids.cloud(TD, "cloudhub"), ids.cloud(TD, "cloud")


async def identity(authority, id) -> Identity:
    key = new_key()
    minted = await authority.mint(make_csr(key, id), id, ttl_seconds=60)
    return Identity(Svid.of(minted.chain_pem, key), await authority.bundle())


def offered(*identities: Identity) -> api.X509SVIDResponse:
    def one(identity: Identity) -> api.X509SVID:
        key = keys.load(identity.svid.key_pem).private_bytes(
            Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain, roots = packed(identity.svid.chain_pem), packed(identity.bundle.pem)
        return api.X509SVID(spiffe_id=str(identity.svid.id), x509_svid=chain, x509_svid_key=key, bundle=roots)

    return api.X509SVIDResponse(svids=list(map(one, identities)))


class Agent:
    """Says on each call what the test puts into its queue."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Queue[api.X509SVIDResponse]] = []
        self.headers: list[dict[str, str]] = []

    async def say(self, call: int, answer: api.X509SVIDResponse) -> None:
        await until(lambda: len(self.calls) > call)
        self.calls[call].put_nowait(answer)

    async def fetch(self, _request, context):
        self.headers.append(dict(context.invocation_metadata()))
        self.calls.append(asyncio.Queue())
        says = self.calls[-1]
        while True:
            yield await says.get()


@asynccontextmanager
async def agent(tmp_path):
    served, server = Agent(), aio.server()
    method = unary_stream_rpc_method_handler(
        served.fetch,
        request_deserializer=api.X509SVIDRequest.FromString,
        response_serializer=api.X509SVIDResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers([method_handlers_generic_handler("SpiffeWorkloadAPI", {"FetchX509SVID": method})])
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    try:
        yield served
    finally:
        await server.stop(None)


async def test_what_the_agent_says_is_taken_and_followed(tmp_path):
    authority = Builtin(tmp_path / "authority", TD)
    first, second, third = [await identity(authority, id) for id in (UNIT, UNIT, OTHER)]
    async with agent(tmp_path) as served:
        source = WorkloadApiSource(tmp_path / "s", id=UNIT)
        waiting = asyncio.ensure_future(source.first())
        await served.say(0, offered(third, first))
        assert await waiting == first
        changes = source.changes()
        waiting = asyncio.ensure_future(anext(changes))
        await served.say(1, offered(first))
        await served.say(1, offered(third, second))
        assert await asyncio.wait_for(waiting, 10) == second
        assert all(headers["workload.spiffe.io"] == "true" for headers in served.headers)
        await changes.aclose()
        await source.close()


async def test_an_answer_that_is_none_is_waited_over_and_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(workload, "RETRY_SECONDS", 0.01)
    authority = Builtin(tmp_path / "authority", TD)
    good = await identity(authority, UNIT)
    async with agent(tmp_path) as served:
        source = WorkloadApiSource(tmp_path / "s")
        waiting = asyncio.ensure_future(source.first())
        bad = offered(good)
        bad.svids[0].x509_svid = b"\x30\x82\xff\xff"
        for call, answer in enumerate((bad, api.X509SVIDResponse(), offered(good))):
            await served.say(call, answer)
        assert await asyncio.wait_for(waiting, 10) == good
        assert "waiting for an identity" in caplog.text and "cut off" in caplog.text
        await source.close()


async def test_an_agent_that_never_answers_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(workload, "ANSWER_SECONDS", 0.1)
    async with agent(tmp_path):
        source = WorkloadApiSource(tmp_path / "s")
        waiting = asyncio.ensure_future(source.first())
        await until(lambda: "does not answer within 0.1 s" in caplog.text)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await source.close()


def test_packed_certificates_come_apart_again(tmp_path):
    roots = b"".join(asyncio.run(Builtin(tmp_path / n, TD).bundle()).roots_pem[0] for n in "abc")
    parts = workload._parts(packed(roots))
    assert parts == [one.public_bytes(Encoding.DER) for one in certificates(roots)]


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_unpacking(data):
    try:
        parts = workload._parts(data)
    except BadSvid:
        return
    assert b"".join(parts) == data
    with pytest.raises(BadSvid):
        workload._parts(data + b"\x30")

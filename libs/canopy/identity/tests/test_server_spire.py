"""The real SPIRE, if it is built: the contract that the built-in authority keeps too, mTLS, agents, workloads."""

import asyncio
import contextlib
import os
import sys
import time
from contextlib import asynccontextmanager

import pytest

from canopy.identity import ids
from canopy.identity.authority import AuthorityAway, AuthorityRefused, Entry
from canopy.identity.identity import Identity, read_identity, write_identity
from canopy.identity.sources import AuthoritySource
from canopy.identity.spire import over_socket, over_tls
from canopy.identity.svid import Svid, make_csr, new_key, verify_chain
from canopy.identity.workload import WorkloadApiSource
from canopy.testing import spire
from canopy.testing.authorities import CONTRACT
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.spire, pytest.mark.xdist_group("spire")]
TD = "canopy.test"
ADMIN, AGENT, UNIT = ids.cloud(TD, "cloud"), ids.node(TD, "agent-1"), ids.cloud(TD, "cloudhub")
ME = f"unix:uid:{os.getuid()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if spire.programs() is None:
        pytest.skip(spire.MISSING)
    with asyncio.Runner() as runner:
        opened = spire.spire_server(tmp_path_factory.mktemp("spire"), TD, admins=(ADMIN,))
        yield runner.run(opened.__aenter__())
        runner.run(opened.__aexit__(None, None, None))


@asynccontextmanager
async def local(server):
    authority = server.authority()
    try:
        yield authority
    finally:
        await authority.close()


async def given(authority, id, folder) -> Identity:
    key = new_key()
    minted = await authority.mint(make_csr(key, id), id, ttl_seconds=60)
    identity = Identity(Svid.of(minted.chain_pem, key), await authority.bundle())
    write_identity(folder, identity)
    return identity


@pytest.mark.parametrize("holds", CONTRACT, ids=lambda f: f.__name__)
async def test_contract(holds, server):
    async with local(server) as authority:
        await holds(authority, TD)


async def test_an_administrator_is_served_by_mtls_and_anybody_else_is_not(server, tmp_path):
    async with local(server) as authority:
        admin = await given(authority, ADMIN, tmp_path / "admin")
        await given(authority, ids.node(TD, "edge-1"), tmp_path / "node")
    async with contextlib.AsyncExitStack() as opened:

        def by(folder, td=TD):
            client = over_tls(server.address, tmp_path / folder, td)
            opened.push_async_callback(client.close)
            return client

        remote = by("admin")
        await CONTRACT[0](remote, TD)
        with pytest.raises(AuthorityAway, match="PERMISSION_DENIED"):
            await by("node").entries()
        with pytest.raises(AuthorityAway, match=r"the peer is spiffe://canopy\.test/spire/server"):
            await by("admin", "other.test").bundle()
        with pytest.raises(AuthorityAway, match="no identity to show"):
            await by("nobody").bundle()
        write_identity(tmp_path / "admin", await given(remote, ids.node(TD, "edge-1"), tmp_path / "node"))
        with pytest.raises(AuthorityAway, match="PERMISSION_DENIED"):
            await remote.entries()  # the files are another's now
        write_identity(tmp_path / "admin", admin)
        await remote.entries()


async def test_a_server_that_is_not_there_is_away_within_seconds(tmp_path):
    authority, began = over_socket(tmp_path / "nothing", TD), time.monotonic()
    with pytest.raises(AuthorityAway, match=r"SPIRE server of canopy\.test at unix:"):
        await authority.bundle()
    assert time.monotonic() - began < 6
    await authority.close()


async def test_a_source_outlives_a_restart_of_the_server(server):
    async with local(server) as authority:
        source = AuthoritySource(authority, ids.node(TD, "edge-9"), ttl_seconds=60)
        first = await source.first()
        await server.kill()
        with pytest.raises(AuthorityAway):
            await authority.bundle()
        await server.start()
        await until(lambda: _answers(authority))
        assert verify_chain(first.svid.chain_pem, await authority.bundle(), time.time()) == first.svid.id


async def _answers(authority) -> bool:
    with contextlib.suppress(AuthorityAway):
        return bool(await authority.bundle())
    return False


async def test_a_workload_gets_what_is_registered_for_it_from_the_real_agent(server, tmp_path, caplog):
    """The source waits and says so; the entry comes, and the SVID; then the helper writes it and tells a server."""
    async with local(server) as authority, spire.spire_agent(tmp_path / "agent", server, AGENT) as agent:
        source = WorkloadApiSource(agent.socket)
        waiting = asyncio.ensure_future(source.first())
        await until(lambda: "PermissionDenied" in caplog.text or "PERMISSION_DENIED" in caplog.text)
        assert not waiting.done()
        await authority.put(Entry(UNIT, AGENT, (ME,), ("cloudhub.example",), 60))
        identity = await asyncio.wait_for(waiting, 20)
        assert identity.svid.id == UNIT
        assert verify_chain(identity.svid.chain_pem, await authority.bundle(), time.time()) == UNIT
        assert identity.bundle == await authority.bundle()
        await source.close()
        await _helps(agent.socket, tmp_path)
        await authority.remove(UNIT)


LISTENER = """
import pathlib, signal, sys
signal.signal(signal.SIGHUP, lambda *_: pathlib.Path(sys.argv[1]).touch())
print("listening", flush=True)
while True:
    signal.pause()
"""
"""No shell: one that was started by nohup cannot listen for SIGHUP."""


async def _helps(socket, tmp_path) -> None:
    """The helper as a process: the files, and SIGHUP to whom the pid file names."""
    heard, listening = tmp_path / "heard", asyncio.subprocess.PIPE
    listener = await asyncio.create_subprocess_exec(sys.executable, "-c", LISTENER, heard, stdout=listening)
    assert listener.stdout is not None and await listener.stdout.readline()
    (tmp_path / "pid").write_text(str(listener.pid))
    wanted = ("--socket", socket, "--dir", tmp_path / "files", "--pid-file", tmp_path / "pid", "--id", str(UNIT))
    helper = await asyncio.create_subprocess_exec(sys.executable, "-m", "canopy.identity.helper", *map(str, wanted))
    try:
        await until(heard.exists)
        assert read_identity(tmp_path / "files").svid.id == UNIT
        helper.terminate()
        assert await asyncio.wait_for(helper.wait(), 10) == 0
    finally:
        for process in (helper, listener):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def test_a_banned_agent_gets_nothing_any_more(server, tmp_path):
    async with local(server) as authority:
        async with spire.spire_agent(tmp_path / "agent", server, ids.node(TD, "agent-2")) as agent:
            await authority.ban(agent.id)
            await until(lambda: not agent.running)
        with pytest.raises(AuthorityRefused, match="not found"):
            await authority.ban(ids.SpiffeId(TD, "/spire/agent/join_token/nobody"))

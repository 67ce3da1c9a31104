"""The admin socket: for its owner, one line asked and one answered, whatever comes."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canopy.contracts import admin as words
from canopy.contracts.admin import AdminAnswer, AdminAsk
from canopy.edgeidentity import admin as module
from canopy.edgeidentity.admin import AdminSocket
from canopy.edgeidentity.admin_peer import Peer
from canopy.identity.admin import AdminAway, ask
from canopy.runtime.audit import AuditLog


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[AuditLog]:
    async def handle(question: AdminAsk, peer: Peer) -> AdminAnswer:
        assert isinstance(question, words.WhoAsk) and peer.pid == os.getpid()
        return AdminAnswer(id=f"{question.namespace}/{question.name}")

    audit = AuditLog("edgeidentity")
    async with AdminSocket(path, handle, audit):
        yield audit


QUESTION = words.WhoAsk(namespace="default", name="lamp")


@pytest.mark.parametrize("depth", [1, 12])
async def test_an_ask_is_answered_also_in_a_folder_deeper_than_a_socket_may_be(tmp_path: Path, depth: int) -> None:
    folder = tmp_path.joinpath(*["a-folder-with-a-name"] * depth)
    async with served(folder / "admin.sock"):
        mode = (folder / "admin.sock").stat().st_mode
        assert stat.S_ISSOCK(mode) and mode & 0o777 == 0o600
        assert (await ask(folder / "admin.sock", QUESTION)).id == "default/lamp"
    assert not (folder / "admin.sock").exists()


async def test_a_socket_that_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    code = f"import socket; socket.socket(socket.AF_UNIX).bind({str(path)!r})"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)
    with pytest.raises(AdminAway, match="does edgeidentity run"):
        await ask(path, QUESTION)
    async with served(path):
        assert (await ask(path, QUESTION)).id


async def test_whoever_is_neither_root_nor_we_is_refused_and_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "peer_of", lambda sock: Peer(5, 65534, 65534))
    async with served(tmp_path / "admin.sock") as audit:
        answer = await ask(tmp_path / "admin.sock", QUESTION)
    assert answer.verdict == words.REFUSED and "sudo" in answer.reason
    assert [(r.what, r.outcome, r.where) for r in audit.waiting(9)] == [
        ("admin", "refused", "pid 5 uid 65534 gid 65534")
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=300), st.sampled_from([b'{"ask":"who"', b"{" * 70_000, b'{"ask":"x"}'])))
def test_whatever_comes_is_answered_or_ended_and_the_next_one_is_served(tmp_path: Path, data: bytes) -> None:
    async def knock() -> None:
        path = tmp_path / "admin.sock"
        async with served(path):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(data + b"\n")
            writer.write_eof()
            async with asyncio.timeout(5):
                line = await reader.readline()
            writer.close()
            assert words.read_answer(line).verdict == words.REFUSED if line else True
            assert (await ask(path, QUESTION)).id == "default/lamp"

    asyncio.run(knock())


async def test_who_says_nothing_is_ended_and_no_more_than_some_are_heard_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 2)
    path = tmp_path / "admin.sock"
    async with served(path):
        silent = [await asyncio.open_unix_connection(str(path)) for _ in range(3)]
        async with asyncio.timeout(5):
            assert [await reader.read() for reader, _ in silent] == [b"", b"", b""]
            assert (await ask(path, QUESTION)).id
        for _, writer in silent:
            writer.close()

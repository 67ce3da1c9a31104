"""The join root of several replicas is one, and only what it signed is the endpoint."""

import asyncio
import ssl
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from canopy.identity import joinroot
from canopy.identity.svid import BadSvid

NOW = time.time()
TD = "canopy.test"


def test_replicas_that_make_a_root_at_once_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        roots = list(pool.map(lambda _: joinroot.at(tmp_path / "keys", TD, NOW), range(16)))
    assert len({root.fingerprint for root in roots}) == 1 and len({root.secret(b"nonces") for root in roots}) == 1
    assert [f.name for f in (tmp_path / "keys").iterdir()] == [joinroot.FILE]
    assert stat.S_IMODE((tmp_path / "keys" / joinroot.FILE).stat().st_mode) == 0o600
    assert joinroot.at(tmp_path / "keys", TD, NOW) == roots[0]


def test_a_secret_is_of_its_purpose_and_its_root() -> None:
    one, two = joinroot.new(TD, NOW), joinroot.new(TD, NOW)
    assert len({one.secret(b"a"), one.secret(b"b"), two.secret(b"a")}) == 3


def test_a_root_with_anothers_key_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    one, two = joinroot.new(TD, NOW), joinroot.new(TD, NOW)
    (tmp_path / joinroot.FILE).write_bytes(one.pem.replace(one.certificate_pem, two.certificate_pem))
    with pytest.raises(BadSvid, match="put back"):
        joinroot.at(tmp_path, TD, NOW)


async def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """One handshake over loopback."""
    listener = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0, ssl=server)
    try:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        assert await reader.read() == b""
        writer.close()
    finally:
        listener.close()


async def test_an_endpoint_of_the_root_is_taken_and_a_new_certificate_in_place_too() -> None:
    root = joinroot.new(TD, NOW)
    server, client = (
        joinroot.server_context(joinroot.endpoint(root, TD, NOW)),
        joinroot.client_context(root.certificate_pem),
    )
    await shake(server, client)
    joinroot.load(server, joinroot.endpoint(root, TD, NOW + 5))
    await shake(server, client)


@pytest.mark.parametrize("when", ["another root", "over", "not yet"])
async def test_what_the_root_did_not_sign_for_now_is_refused(when: str) -> None:
    root = joinroot.new(TD, NOW)
    other = joinroot.new(TD, NOW) if when == "another root" else root
    at = {"over": NOW - 32 * 86_400, "not yet": NOW + 3 * 86_400}.get(when, NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake(
            joinroot.server_context(joinroot.endpoint(other, TD, at)), joinroot.client_context(root.certificate_pem)
        )

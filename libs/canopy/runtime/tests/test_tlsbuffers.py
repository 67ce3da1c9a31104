"""What a TLS connection of asyncio takes, by asyncio's own words."""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol

import pytest

from canopy.runtime import tlsbuffers


async def test_a_tls_connection_keeps_no_more_than_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSLProtocol, "max_size", SSLProtocol.max_size)  # put back after the test
    tlsbuffers.spare()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    loop = asyncio.get_running_loop()
    made = SSLProtocol(loop, asyncio.Protocol(), context, loop.create_future(), server_hostname="localhost")
    assert len(made.get_buffer(-1)) == tlsbuffers.BUFFER_BYTES

"""What of nats-py's client is mended, where no server is needed to see it."""

import asyncio

from canopy.bus.client import NatsClient


async def test_a_pong_for_which_nobody_waits_any_more_ends_no_connection() -> None:
    client = NatsClient()
    late, waiting = asyncio.Future[bool](), asyncio.Future[bool]()
    late.cancel()
    client._pongs = [late, waiting]
    await client._process_pong()
    await client._process_pong()
    assert waiting.result() and client._pongs == [] and client._pings_outstanding == 0

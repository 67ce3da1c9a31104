"""What of nats-py's client is mended, where no server is needed to see it."""

import asyncio

import pytest

from canopy.bus.client import NatsClient


async def test_a_pong_for_which_nobody_waits_any_more_ends_no_connection() -> None:
    client = NatsClient()
    late, waiting = asyncio.Future[bool](), asyncio.Future[bool]()
    late.cancel()
    client._pongs = [late, waiting]
    await client._process_pong()
    await client._process_pong()
    assert waiting.result() and client._pongs == [] and client._pings_outstanding == 0


class Losing(NatsClient):
    """Its connection is lost while it is flushed, `forever`: never."""

    is_connected = True

    def __init__(self, forever: bool) -> None:
        super().__init__()
        self.waited, self._forever = asyncio.Event(), forever

    async def _flush_pending(self, force_flush: bool = False) -> None:
        lost = asyncio.get_running_loop().create_future()
        self.waited.set()
        if not self._forever:
            lost.cancel()
        await lost


async def test_a_connection_that_is_lost_while_it_is_flushed_cancels_nobody() -> None:
    assert not await Losing(forever=False).flushed()


async def test_who_is_cancelled_while_it_flushes_is_cancelled() -> None:
    client = Losing(forever=True)
    flushing = asyncio.create_task(client.flushed())
    await client.waited.wait()
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing

"""How nats-py is imported first: without aiohttp, by which it could speak over WebSockets. Only the package calls it.

Where aiohttp is installed, as beside the demo's cloud units, it would cost an edge 10 MB for what nobody speaks here.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNSPOKEN = "aiohttp"


@contextmanager
def without_websockets() -> Iterator[None]:
    """For what is imported within, aiohttp is not installed; whoever needs it imports it before or after."""
    if UNSPOKEN in sys.modules:
        yield
        return
    sys.modules[UNSPOKEN] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[UNSPOKEN]

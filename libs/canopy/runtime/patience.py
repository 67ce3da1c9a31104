"""Trying until it works, for what is needed first and may not be there yet: any start order must do. Units call it."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from canopy.runtime.backoff import Backoff

FIRST_SECONDS, MOST_SECONDS = 0.2, 3.0

log = logging.getLogger("canopy.run")
T = TypeVar("T")


async def patiently(
    what: str,
    attempt: Callable[[], Awaitable[T]],
    expected: type[Exception] | tuple[type[Exception], ...],
    most_seconds: float = MOST_SECONDS,
) -> T:
    """Try until `attempt` raises none of `expected`; says so when it takes more than a moment, and then rarely."""
    backoff, tries = Backoff(FIRST_SECONDS, most_seconds, random.Random()), 0  # noqa: S311 - spreads attempts
    while True:
        try:
            return await attempt()
        except expected as error:
            tries += 1
            if tries in (3, 20) or tries % 200 == 0:
                log.warning("waiting for %s: %s", what, error)
            await asyncio.sleep(backoff.next_seconds())

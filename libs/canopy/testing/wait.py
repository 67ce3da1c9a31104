"""Wait on a condition with a deadline, in place of a sleep."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

DEADLINE_SECONDS = 20.0
LOOK_SECONDS, MOST_LOOK_SECONDS = 0.01, 0.1
LOOK_SHARE = 0.05
"""Of what has been waited already, until the next look: what is waited for wants the processor too."""


async def until(condition: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    """What `condition` (a function or a coroutine function) gives, once that is true. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        waited = loop.time() - began
        if waited > seconds:
            raise TimeoutError(f"{getattr(condition, '__name__', condition)!s} is not so after {seconds:g} s")
        await asyncio.sleep(min(max(LOOK_SECONDS, LOOK_SHARE * waited), MOST_LOOK_SECONDS))

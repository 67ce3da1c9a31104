"""Wait on a condition with a deadline, in place of a sleep."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

DEADLINE_SECONDS = 20.0
LOOK_SECONDS = 0.01


async def until(condition: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    """What `condition` (a function or a coroutine function) gives, once that is true. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if loop.time() > deadline:
            raise TimeoutError(f"{getattr(condition, '__name__', condition)!s} is not so after {seconds:g} s")
        await asyncio.sleep(LOOK_SECONDS)

"""What an informer and a leader tell: hooks that may be async. For `informer` and `leader`."""

import inspect
from collections.abc import Awaitable

Said = Awaitable[None] | None
"""What a hook gives back; what can be awaited is."""


async def said(result: Said) -> None:
    if inspect.isawaitable(result):
        await result

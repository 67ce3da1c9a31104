"""The background of kubeserve ends when it is told to."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from canopy.kubeserve.garbage import Collector
from canopy.kubeserve.state import State


@pytest.mark.parametrize("turns", range(5))
async def test_who_is_ended_just_as_a_change_comes_ends(turns: int) -> None:
    """Python before 3.12 loses a cancelling in `asyncio.wait_for`, if what is waited for comes at the same moment."""
    store: Any = SimpleNamespace(state=State(0, ()))
    nobody: Any = None
    collector = Collector(store, nobody, nobody, 60.0)
    task = asyncio.create_task(collector.run())
    for _ in range(5):
        await asyncio.sleep(0)
    collector.hear([])
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=1)
    assert done

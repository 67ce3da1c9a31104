"""Devices on every node that count over MQTT, and eyes on what Kubernetes and each replica of the fleet API show: sent
against seen, per device. For stories in which something is killed or replaced."""

import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator

from players import Players
from stories import Stories
from topology import Topology
from watching import Eyes, statuses

from canopy.testing.wait import until

DEVICES_PER_NODE = 6
KNOWN_SECONDS = 60.0


class Load:
    """The players of each node, and the eyes."""

    def __init__(self, stories: Stories, players: list[Players], eyes: Eyes) -> None:
        self._stories, self._players, self._eyes = stories, players, eyes

    async def moves(self, seconds: float) -> float:
        """Wait until Kubernetes shows of every device something that was answered from now on; the seconds."""
        was, began = self._answered(), time.monotonic()
        behind = set(was)

        async def newer() -> bool:
            shown = await self._shown()
            behind.intersection_update(name for name in was if shown.get(name, 0) <= was[name])
            return not behind

        try:
            await until(newer, seconds)
        except TimeoutError:
            raise AssertionError(f"nothing newer after {seconds:g} s of {', '.join(sorted(behind))}") from None
        return time.monotonic() - began

    async def answered_more(self, times: int, seconds: float) -> None:
        """Wait until each device has been answered so often from now on."""
        was = self._answered()
        await until(lambda: all(now >= was[name] + times for name, now in self._answered().items()), seconds)

    async def judged(self, seconds: float) -> dict[str, tuple[int, int, int]]:
        """Stop reporting; device -> (sent, answered, seen in Kubernetes), once what was answered is seen.

        Raises AssertionError if it never is, or if something older was seen after something newer.
        """
        for one in self._players:
            one.pause()
        table: dict[str, tuple[int, int, int]] = {}

        async def nothing_lost() -> bool:
            shown, sent, answered = await self._shown(), self._sent(), self._answered()
            table.update({name: (sent[name], answered[name], shown.get(name, 0)) for name in sent})
            return all(answered <= seen <= sent for sent, answered, seen in table.values())

        with contextlib.suppress(TimeoutError):
            await until(nothing_lost, seconds)
        lost = {name: row for name, row in table.items() if not row[1] <= row[2] <= row[0]}
        assert not lost, f"(sent, answered, seen) of what was lost: {lost}"
        assert not self._eyes.older, f"older after newer: {self._eyes.older}"
        for one in self._players:
            one.go()
        return table

    def _sent(self) -> dict[str, int]:
        return {name: value for one in self._players for name, value in one.sent.items()}

    def _answered(self) -> dict[str, int]:
        return {name: value for one in self._players for name, value in one.answered.items()}

    async def _shown(self) -> dict[str, int]:
        return {name: value for (name, _), value in (await statuses(self._stories.kube)).items()}


@contextlib.asynccontextmanager
async def load(topology: Topology, stories: Stories, nodes: list[str] | None = None) -> AsyncIterator[Load]:
    """Devices of this story's own on these nodes (or all); gone at its end."""
    rng, mark, eyes = random.Random(9), uuid.uuid4().hex[:5], Eyes(topology)  # type: ignore[arg-type]
    players = list[Players]()
    async with contextlib.AsyncExitStack() as stack:
        for node in [topology.nodes[name] for name in nodes or topology.nodes]:
            names = [f"l{mark}-{node.name}-{i}" for i in range(DEVICES_PER_NODE)]
            for name in names:
                await stories.create(name, on=node.name)
                stack.push_async_callback(stories.kube.delete, "Device", name)
            one = Players(node.mqtt_port, names, rng, contexts=await node.contexts(*names))
            players.append(await stack.enter_async_context(one.playing()))
        await _all_answered(topology, players)
        await stack.enter_async_context(eyes.open())
        yield Load(stories, players, eyes)


async def _all_answered(topology: Topology, players: list[Players]) -> None:
    """Every device has been answered once. What the units measure is kept when one never is."""
    try:
        await until(lambda: all(all(one.answered.values()) for one in players), KNOWN_SECONDS)
    except TimeoutError:
        silent = [name for one in players for name, value in one.answered.items() if not value]
        kept = await topology.metrics()
        raise AssertionError(f"no answer for {KNOWN_SECONDS:g} s to {', '.join(silent)}; metrics: {kept}") from None


def said(table: dict[str, tuple[int, int, int]]) -> str:
    """Sent, answered and seen of all devices together, for a line."""
    sent, answered, seen = (sum(row[i] for row in table.values()) for i in range(3))
    return f"{len(table)} devices: {sent} sent, {answered} the last answered, {seen} seen; none lost, none older"

"""What was acknowledged is not lost: kill -9 of the unit, and of the leaf, during a stream of QoS 1 reports."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from canopy.bus.gateway import DURABLE
from canopy.bus.jsapi import call
from canopy.contracts.catalogue import MQTT_IN, MQTT_STORED, MQTT_STREAM
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("devicetwin")]
COUNT = 900


class Alone:
    """The unit in a process of its own."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        leaf = self._node.leaf
        script = str(Path(__file__).with_name("alone.py"))
        arguments = [leaf.client_url, str(await self._node.identity()), str(self._node.directory)]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, script, *arguments, stdout=asyncio.subprocess.PIPE, env={**os.environ}
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            assert await self._process.stdout.readline() == b"started\n"

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def alone(node: Any) -> AsyncIterator[Alone]:
    unit = Alone(node)
    await unit.start()
    try:
        yield unit
    finally:
        await unit.kill()


async def _say(one: Any, i: int) -> None:
    """Each value has a key of its own, so that a single lost one shows, wherever it was."""
    said = {"actual": {"value": str(i)}, "metadata": {"type": "int"}}
    await one.say("twin/update", {"event_id": f"e{i}", "twin": {f"k{i}": said, "last": said}})


async def _say_all(one: Any, first: int, last: int) -> None:
    """In this order; all are PUBACKed when it ends."""
    for at in range(first, last, 20):
        await asyncio.gather(*(_say(one, i) for i in range(at, min(last, at + 20))))


async def _all_there(one: Any, count: int) -> bool:
    twins = await one.get()
    missing = [i for i in range(count) if f"k{i}" not in twins]
    return not missing and twins["last"]["actual"]["value"] == str(count - 1)


async def test_kill_9_during_a_stream_of_reports_loses_none(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    async with alone(node) as unit:
        await node.listed(1)
        async with node.talk("d1") as one:
            for part in range(3):
                saying = asyncio.create_task(_say_all(one, part * COUNT // 3, (part + 1) * COUNT // 3))
                mark = len(one.heard)
                await until(lambda mark=mark: len(one.heard) > mark + 100)
                await unit.kill()
                await saying
                await unit.start()
            await until(lambda: _all_there(one, COUNT))
            answered = {b["event_id"] for s, b in one.heard if s == "twin/update/result"}
            assert len(answered) > COUNT // 2
        await until(lambda: node.hub.value("d1", "last") == str(COUNT - 1))
        revisions = [r.revision for r in node.hub.reports]
        assert revisions == sorted(revisions)


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
async def test_a_leaf_that_starts_again_loses_no_report_that_it_acknowledged(node: Any, make: Any, kill: bool) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    async with node.talk("d1") as one:
        await _say_all(one, 0, 200)
        await one.get()
    await node.leaf.server.restart(kill=kill)
    async with node.talk("d1") as one:
        await _say_all(one, 200, 300)
        await until(lambda: _all_there(one, 300))
    await node.leaf.server.restart(kill=kill)
    async with node.talk("d1") as one:
        await _say_all(one, 300, 400)
        await until(lambda: _all_there(one, 400))
    await node.equal()
    assert node.hub.value("d1", "last") == "399"


async def test_a_stopped_unit_finds_what_came_meanwhile(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    await node.stop()
    await _as_an_older_release(node)
    async with node.talk("d1") as one:
        await _say_all(one, 0, 300)
        await node.start()
        await until(lambda: _all_there(one, 300))
        results = [b["event_id"] for s, b in one.heard if s == "twin/update/result"]
        assert results == [f"e{i}" for i in range(300)]


async def _as_an_older_release(node: Any) -> None:
    """Leave the gateway's stream bigger and its consumer with filters, as releases before this one made them."""
    bus, topics = await node.bus("devicetwin"), [MQTT_STORED + topic.wild() for topic in MQTT_IN]
    stream = (await call(bus, f"STREAM.INFO.{MQTT_STREAM}"))["config"]
    await call(bus, f"STREAM.UPDATE.{MQTT_STREAM}", {**stream, "max_bytes": 2 * stream["max_bytes"]})
    consumer = {"durable_name": DURABLE, "filter_subjects": topics, "ack_policy": "all", "max_ack_pending": 20_000}
    body = {"stream_name": MQTT_STREAM, "config": {**consumer, "ack_wait": 60 * 10**9, "max_waiting": 16}}
    made = await call(bus, f"CONSUMER.DURABLE.CREATE.{MQTT_STREAM}.{DURABLE}", body)
    assert made["config"]["filter_subjects"] == topics
    await bus.close()


async def test_the_unit_waits_for_a_leaf_that_is_not_there_and_crashes_on_nothing(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    for _ in range(3):
        await node.leaf.server.restart(kill=True)
    async with node.talk("d1") as one:
        await one.say("twin/get", {"event_id": "g"})
        await until(lambda: _answered(one))


async def _answered(one: Any) -> bool:
    await one.say("twin/get", {"event_id": "g"})
    return any(s == "twin/get/result" for s, _ in one.heard)

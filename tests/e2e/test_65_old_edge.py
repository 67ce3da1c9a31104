"""An edge two releases older: what it says, as its release wrote it, is taken and answered by today's cloud so that it
understands; it gets its set, a push, and its report is seen in Kubernetes. With CANOPY_E2E_OLD_EDGE_IMAGE, an image of
that release serves its devices under load too."""

import importlib.util
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import nats
import pytest
import pytest_asyncio
from judging import load, said
from node_box import Node
from spire_box import TD
from stories import Stories
from telling import say, step
from topology import FOLDED_UNITS, Topology

from canopy.contracts.roles import EDGEIDENTITY
from canopy.identity import ids
from canopy.identity.tls import client_context
from canopy.testing.wait import until

pytestmark = pytest.mark.short
RELEASES = sorted((Path(__file__).parents[1] / "architecture" / "releases").glob("[0-9]*"))
OLD_IMAGE = os.environ.get("CANOPY_E2E_OLD_EDGE_IMAGE", "")
OLD, NOTHING = "edge-0", "0" * 16
OLD_WHOLE = "edge-00"
SEEN_SECONDS, ASK_SECONDS = 30.0, 10.0


class OldEdge:
    """An EdgeHub of before: `then` is its wire, `client` its connection to the leaf."""

    def __init__(self, then: ModuleType, client: Any) -> None:
        self._then, self._client = then, client
        self.session, self.n, self.pushes = 0, 0, list[Any]()

    async def ask(self, subject: str, message: Any, answer: str) -> Any:
        """What the cloud answers, as this release reads it."""
        body = self._then.encode(message)
        got = await self._client.request(f"node.{OLD}.ask.{subject}", body, timeout=ASK_SECONDS)
        return msgspec.json.decode(got.data, type=getattr(self._then, answer))

    def stamp(self) -> dict[str, int]:
        self.n += 1
        return {"session": self.session, "n": self.n}

    async def greets(self) -> None:
        answer = await self.ask("hello", self._then.Hello(version="0.0.1"), "HelloAnswer")
        assert answer.verdict == "ok" and answer.session, answer
        self.session = answer.session

        async def hear(message: Any) -> None:
            self.pushes.append(msgspec.json.decode(message.data, type=self._then.Push))

        await self._client.subscribe(f"node.{OLD}.in.{answer.nonce}.push.devices", cb=hear)
        await self._client.flush()

    async def beats(self) -> str:
        beat = self._then.Beat(**self.stamp(), health={"edgehub": "ok"}, hash=NOTHING)
        return str((await self.ask("beat", beat, "BeatAnswer")).verdict)

    async def set_of(self) -> dict[str, Any]:
        """Its set by (kind, name)."""
        answer = await self.ask("page.devices", self._then.PageAsk(**self.stamp()), "PageAnswer")
        assert answer.verdict == "ok" and answer.next is None, answer
        return {put.entry.name: put for put in answer.puts if put.entry.kind == "Device"}

    async def reports(self, device: dict[str, Any], value: str) -> str:
        then, meta = self._then, device["metadata"]
        side = then.Side(value=value, timestamp=time.time_ns() // 1_000_000)
        state = then.DeviceState(twins={"level": then.TwinState(reported=side)}, state="online")
        report = then.Report(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            device_revision=int(meta["resourceVersion"]),
            revision=1,
            content=msgspec.Raw(then.encode(state)),
        )
        answer = await self.ask("report", then.ReportBatch(**self.stamp(), reports=[report]), "ReportResults")
        assert answer.verdict == "ok", answer
        return str(answer.results[0].outcome)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def machine(topology: Topology) -> AsyncIterator[Node]:
    """With edgeidentity and a leaf, and without an EdgeHub."""
    yield await topology.add_node(OLD, (EDGEIDENTITY,), clients=True)
    await topology.remove_node(OLD)


@pytest.mark.parametrize("folder", RELEASES, ids=lambda folder: folder.name)
async def test_an_edge_of_an_older_release(machine: Node, stories: Stories, folder: Path) -> None:
    node, names = machine, [f"old-{folder.name[:1]}-{i}" for i in range(2)]
    url = f"tls://127.0.0.1:{node.client_port}"
    tls = client_context(await node.identity_of("edgehub"), frozenset({ids.local(TD, OLD, "leaf")}))
    client = await nats.connect(url, tls=tls, inbox_prefix=f"node.{OLD}.in.r".encode())
    edge = OldEdge(_wire_of(folder), client)
    try:
        first = await stories.create(names[0], on=OLD)
        with step("its hello and its beat are answered"):
            await until(lambda: _greeted(edge), SEEN_SECONDS)
            assert await edge.beats() == "ok"
        with step("a page brings its set"):
            await until(lambda: _holds(edge, names[0]), SEEN_SECONDS)
        with step("a new Device is pushed to it"):
            await stories.create(names[1], on=OLD)
            await until(lambda: any(put.entry.name == names[1] for p in edge.pushes for put in p.puts), SEEN_SECONDS)
        with step("its report is taken, and seen in Kubernetes"):
            assert await edge.reports(first, "42") == "ok"
            await stories.shows(names[0], {"level": "42"}, SEEN_SECONDS)
    finally:
        await client.close()
        for name in names:
            await stories.kube.delete("Device", name)


@pytest.mark.skipif(
    not OLD_IMAGE, reason="there is no image of an older release yet: CANOPY_E2E_OLD_EDGE_IMAGE names it"
)
async def test_the_image_of_an_older_release(topology: Topology, stories: Stories) -> None:
    try:
        with step(f"a node of {OLD_IMAGE} joins"):
            await topology.add_node(OLD_WHOLE, FOLDED_UNITS, {"edge": OLD_IMAGE})
        async with load(topology, stories, [OLD_WHOLE]) as devices:
            with step("its devices are seen"):
                await devices.moves(SEEN_SECONDS)
                say(f"      {said(await devices.judged(SEEN_SECONDS))}")
    finally:
        await topology.remove_node(OLD_WHOLE)


async def _greeted(edge: OldEdge) -> bool:
    """The leaf may not have joined the hub yet."""
    try:
        await edge.greets()
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
        return False
    return True


async def _holds(edge: OldEdge, name: str) -> bool:
    return name in await edge.set_of()


def _wire_of(folder: Path) -> ModuleType:
    name = f"old_wire_{folder.name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, folder / "wire.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

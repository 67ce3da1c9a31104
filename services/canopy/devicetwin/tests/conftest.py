"""A node for the tests of the unit: a real leaf, DeviceTwin on it, and fakes of MetaManager and EdgeHub on its bus."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest

from canopy.bus import AskFailed, Bus, Place
from canopy.contracts import catalogue as c
from canopy.contracts.wire import (
    AsOf,
    Entry,
    LinkState,
    Nothing,
    PageAnswer,
    PageAsk,
    Put,
    ReportBatch,
    ReportResult,
    ReportResults,
    SetChanged,
    StateEntry,
    StatePageAnswer,
    StatePageAsk,
    Summary,
)
from canopy.devicetwin.settings import Settings
from canopy.devicetwin.unit import DeviceTwin
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.sync.down import Wanted
from canopy.sync.sets import HashedSet, digest
from canopy.testing import node as nodes
from canopy.testing.domain import TD
from canopy.testing.wait import until

NODE = "node"
ANSWER_SECONDS = 8.0
ODD_NAMESPACES = ("dev", "device", "hw", "event")
DEVICE_TOPICS = (
    "twin/update/result",
    "twin/update/document",
    "twin/update/delta",
    "twin/get/result",
    "state/update/result",
)
MEMBER_TOPICS = ("membership/get/result", "membership/updated")


def device(name: str, uid: str = "u1", namespace: str = "default", revision: int = 7, **desired: str) -> Put:
    """A Device as MetaManager hands it on."""
    body = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": str(revision),
            "annotations": {"attribute.canopy.dev/serial": "S-1"},
        },
        "spec": {
            "deviceModelRef": {"name": "light"},
            "properties": [{"name": k, "desired": {"value": v}} for k, v in desired.items()],
        },
    }
    return put("Device", namespace, name, uid, body)


def model(namespace: str = "default", **properties: dict[str, str]) -> Put:
    """The DeviceModel `light`."""
    body = {"metadata": {"name": "light"}, "spec": {"properties": [{"name": k, **p} for k, p in properties.items()]}}
    return put("DeviceModel", namespace, "light", "m1", body)


def put(kind: str, namespace: str, name: str, uid: str, body: dict[str, Any]) -> Put:
    raw = json.dumps(body).encode()
    return Put(Entry(kind, namespace, name, uid, digest(raw)), msgspec.Raw(raw))


class FakeMeta:
    """Answers page asks with the set that the test gives it; `at` is its resourceVersion."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._wanted, self.at, self.verdict = bus, Wanted(()), 0, "ok"

    async def open(self) -> None:
        await self._bus.serve(c.META_PAGE, self._page)

    async def set(self, *puts: Put, at: int | None = None) -> None:
        self._wanted = Wanted(puts)
        self.at = self.at + 1 if at is None else at
        await self._bus.say(c.META_CHANGED, SetChanged(as_of=self._as_of(), hash=self._wanted.hash), channel="devices")

    def _as_of(self) -> AsOf:
        return AsOf(epoch=1, revisions={"Device": self.at})

    async def _page(self, ask: PageAsk, place: Place[PageAsk]) -> PageAnswer:
        if self.verdict != "ok":
            return PageAnswer(verdict=self.verdict)
        return self._wanted.answer(ask, self._as_of())


class FakeHub:
    """Stores what is reported, as TWINS would; `outcome` is said of each report."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.stored: HashedSet[StateEntry] = HashedSet()
        self.states: dict[tuple[str, str], Any] = {}
        self.reports: list[Any] = []
        self.pages: list[StatePageAsk] = []
        self.outcome, self.verdict = "ok", "ok"
        self.answers = asyncio.Event()
        self.answers.set()

    async def open(self) -> None:
        await self._bus.serve(c.HUB_REPORT, self._report)
        await self._bus.serve(c.HUB_STATE_PAGE, self._page)

    async def link(self, up: bool, session: int = 1) -> None:
        await self._bus.say(c.LINK, LinkState(up=up, session=session))

    async def want(self) -> None:
        await self._bus.say(c.HUB_WANT, Nothing(), channel=c.UP_CHANNEL)

    async def summary(self) -> Summary:
        return await self._bus.ask(c.TWIN_SUMMARY, Nothing(), timeout=5)

    async def _report(self, batch: ReportBatch, place: Place[ReportBatch]) -> ReportResults:
        if self.verdict != "ok":
            return ReportResults(verdict=self.verdict)
        results = [self._store(r) for r in batch.reports]
        await self.answers.wait()
        return ReportResults(results=results)

    def _store(self, report: Any) -> ReportResult:
        self.reports.append(report)
        content = bytes(report.content)
        entry = StateEntry(report.namespace, report.name, report.uid, report.revision, digest(content))
        if self.outcome == "ok":
            self.stored.put(entry)
            self.states[entry.key] = json.loads(content)
        return ReportResult(
            namespace=report.namespace,
            name=report.name,
            uid=report.uid,
            revision=report.revision,
            digest=entry.digest,
            outcome=self.outcome,
        )

    async def _page(self, ask: StatePageAsk, place: Place[StatePageAsk]) -> StatePageAnswer:
        self.pages.append(ask)
        resend = [e.key for e in ask.entries if self.stored.get(e.key) != e]
        listed = {e.key for e in ask.entries}
        for entry in list(self.stored):
            inside = (ask.start is None or entry.key >= ask.start) and (ask.end is None or entry.key < ask.end)
            if inside and entry.key not in listed:
                self.stored.drop(entry.key)
        return StatePageAnswer(resend=resend)

    def value(self, name: str, key: str, namespace: str = "default") -> str | None:
        """What the cloud knows of a property."""
        twin = self.states.get((namespace, name), {}).get("twins", {}).get(key, {})
        return twin.get("reported", {}).get("value")


def id_of(name: str, namespace: str = "default") -> ids.SpiffeId:
    return ids.device(TD, NODE, namespace, name)


WATCHER = id_of("watcher")
"""Some device that wants to know who else is there."""
GUESTS = (WATCHER, *map(id_of, ("d0", "d1", "d2", "nobody", "a.b")), *(id_of("x", n) for n in ODD_NAMESPACES))


class Talk:
    """A stock MQTT client that speaks and listens below one topic."""

    def __init__(self, client: aiomqtt.Client, base: str) -> None:
        self.client, self.base = client, base
        self.heard: list[tuple[str, Any]] = []
        self._taken: dict[str, int] = {}

    async def say(self, suffix: str, payload: Any, qos: int = 1) -> None:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        await self.client.publish(f"{self.base}/{suffix}", body, qos=qos)

    async def next(self, suffix: str, seconds: float = ANSWER_SECONDS) -> Any:
        at = await until(lambda: (self._at(suffix) or 0) + 1 if self._at(suffix) is not None else None, seconds)
        self._taken[suffix] = at
        return self.heard[at - 1][1]

    def _at(self, suffix: str) -> int | None:
        first = self._taken.get(suffix, 0)
        return next((i for i in range(first, len(self.heard)) if self.heard[i][0] == suffix), None)

    async def update(self, twin: Any, qos: int = 1, event: str | None = None) -> Any:
        event = event or uuid.uuid4().hex[:8]
        await self.say("twin/update", {"event_id": event, "twin": twin}, qos)
        result = await self.next("twin/update/result")
        assert result["event_id"] == event
        return result

    async def get(self) -> Any:
        await self.say("twin/get", {"event_id": "g"})
        return (await self.next("twin/get/result"))["twin"]

    async def listen(self) -> None:
        async for message in self.client.messages:
            topic = str(message.topic)
            self.heard.append((topic.removeprefix(f"{self.base}/"), json.loads(bytes(message.payload))))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def talk(client: aiomqtt.Client, base: str, topics: Sequence[str]) -> AsyncIterator[Talk]:
    async with client:
        client.pending_calls_threshold = 100
        one = Talk(client, base)
        listening = asyncio.create_task(one.listen())
        await client.subscribe([(f"{base}/{topic}", 1) for topic in topics])
        try:
            yield one
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                await listening


class Node:
    """A leaf with DeviceTwin on it; the unit may be stopped and started again."""

    def __init__(self, node: nodes.Node) -> None:
        self._node, self.leaf, self.bus = node, node.leaf, node.bus
        self.directory = node.folder / "data"
        self._task: asyncio.Task[None] | None = None
        self.meta: FakeMeta
        self.hub: FakeHub

    async def open(self) -> None:
        self.meta, self.hub = FakeMeta(await self.bus("metamanager")), FakeHub(await self.bus("edgehub"))
        await self.meta.open()
        await self.hub.open()

    async def start(self, **settings: Any) -> None:
        """Run the unit until `stop`."""
        unit = DeviceTwin(await self._node.environment("devicetwin"), Settings(**settings))
        started = asyncio.Event()
        self._task = asyncio.create_task(unit.run(started.set))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({self._task, waiting}, timeout=15, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert started.is_set(), self._task.exception() if self._task.done() else "not started"

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def equal(self) -> None:
        """Wait until the cloud holds just what the node does."""

        async def same() -> bool:
            try:
                summary = await self.hub.summary()
            except AskFailed:
                return False
            return summary.hash == self.hub.stored.hash and summary.pending == 0

        await until(same)

    @contextlib.asynccontextmanager
    async def talk(self, name: str, namespace: str = "default") -> AsyncIterator[Talk]:
        client = await self._node.mqtt(id_of(name, namespace), identifier=uuid.uuid4().hex)
        async with talk(client, f"$hw/events/device/{namespace}/{name}", DEVICE_TOPICS) as one:
            yield one

    @contextlib.asynccontextmanager
    async def member(self) -> AsyncIterator[Talk]:
        client = await self._node.mqtt(WATCHER, identifier=uuid.uuid4().hex)
        async with talk(client, f"$hw/events/node/{NODE}", MEMBER_TOPICS) as one:
            yield one

    async def identity(self) -> Path:
        """A folder with that of the unit."""
        return await self._node.files(self._node.id("devicetwin"))

    async def listed(self, count: int) -> list[Any]:
        """The members, once there are `count`."""
        async with self.member() as one:

            async def there() -> Any:
                await one.say("membership/get", {"event_id": "m"})
                found = (await one.next("membership/get/result"))["devices"]
                return [found] if len(found) == count else None

            return (await until(there))[0]  # type: ignore[no-any-return]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with contextlib.AsyncExitStack() as stack:
        made = await nodes.Node.make(tmp_path, NODE, Builtin(tmp_path / "fleet", TD), stack)
        made.invite(*GUESTS)
        await made.start()
        found = Node(made)
        await found.open()
        yield found
        await found.stop()


@pytest.fixture
def make() -> Callable[..., Put]:
    return device


@pytest.fixture
def make_model() -> Callable[..., Put]:
    return model

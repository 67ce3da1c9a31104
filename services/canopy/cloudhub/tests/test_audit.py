"""The audit at the hub: a node's word is that node's, bounded, found by what people ask, and shown to whom it may."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from canopy.bus.dispatch import Place
from canopy.bus.jsapi import StreamError
from canopy.cloudhub import audit as module
from canopy.cloudhub.adapters import audit as shown
from canopy.cloudhub.adapters import problem
from canopy.cloudhub.audit import Audit, Wanted
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import AuditBatch, AuditRecord
from canopy.kube.errors import Unauthorized
from canopy.runtime.metrics import Metrics
from canopy.testing.clock import FrozenClock


class FakeStream:
    """The stream and its reader in memory."""

    def __init__(self) -> None:
        self.messages: dict[str, bytes] = {}
        self.failing = False

    async def put(self, address: str, data: bytes, expect: int | None, trace: Any = None) -> int:
        if self.failing:
            raise StreamError(1, "no")
        self.messages.pop(address, None)
        self.messages[address] = data
        return len(self.messages)

    async def newest(self, wild: str, keep: Any, most: int, since_ms: int = 0) -> list[AuditRecord]:
        node = c.AUDIT.tokens(wild.replace("*", "x"))
        assert node is not None
        found = [keep(d) for a, d in self.messages.items() if node["node"] in ("x", a.split(".")[1].replace("_", "."))]
        return [one for one in found if one is not None][-most:]


class Hub:
    def __init__(self) -> None:
        self.stream, self.clock, self.metrics = FakeStream(), FrozenClock(), Metrics()
        bus: Any = None
        self.audit = Audit(bus, self.stream, self.stream, self.clock, self.metrics)

    async def of_node(self, node: str, *records: AuditRecord, dropped: int = 0) -> str:
        place: Place[AuditBatch] = Place({"node": node}, {}, "")
        return (await self.audit.of_node(AuditBatch(records=list(records), dropped=dropped), place)).verdict

    def dropped(self, why: str) -> float:
        return self.metrics.counter("canopy_cloudhub_audit_dropped_total", "").value(why=why)


def record(number: int = 1, **more: Any) -> AuditRecord:
    given = {"at": number, "what": "provision", "who": "root", "subject": "default/lamp", "unit": "edgeidentity"}
    return AuditRecord(id=f"{number:016x}", **{**given, **more})


@pytest.fixture
def hub() -> Hub:
    return Hub()


async def test_the_node_is_the_subjects_never_the_bodys(hub: Hub) -> None:
    assert await hub.of_node("a", record(node="b")) == "ok"
    assert await hub.of_node("b.c", record()) == "ok"
    assert sorted(r.node for r in await hub.audit.find(Wanted(), 9)) == ["a", "b.c"]
    assert [r.node for r in await hub.audit.find(Wanted(node="b.c"), 9)] == ["b.c"]


async def test_the_same_record_again_is_one(hub: Hub) -> None:
    await hub.of_node("a", record(count=1))
    await hub.of_node("a", record(count=7))
    assert [r.count for r in await hub.audit.find(Wanted(), 9)] == [7]


@pytest.mark.parametrize(
    "bad",
    [
        record(unit="spire_integration"),
        record(what="Admission of everybody"),
        record(outcome=""),
        record(count=-1),
        record(not_after=2**60),
        AuditRecord(id="../x", at=1, what="join", unit="edgeidentity"),
    ],
)
async def test_what_is_no_record_of_a_node_is_left_out_and_counted(hub: Hub, bad: AuditRecord) -> None:
    assert await hub.of_node("a", bad, record(2), dropped=3) == "ok"
    assert len(await hub.audit.find(Wanted(), 9)) == 1
    assert (hub.dropped("not acceptable"), hub.dropped("by the node")) == (1, 3)


async def test_texts_are_cut_and_cannot_steer_a_terminal(hub: Hub) -> None:
    await hub.of_node("a", record(who="\x1b[2J" + "x" * 9999, trace="no trace"))
    (found,) = await hub.audit.find(Wanted(), 9)
    assert len(found.who) == module.MAX_WORDS and "\x1b" not in found.who and found.trace == ""


async def test_a_node_that_says_too_much_is_told_to_come_later_and_others_are_not(hub: Hub) -> None:
    batch = [record(n) for n in range(100)]
    assert [await hub.of_node("a", *batch) for _ in range(13)] == ["ok"] * 12 + ["busy"]
    assert await hub.of_node("b", *batch) == "ok"
    await hub.clock.advance(100 / module.RECORDS_PER_SECOND)
    assert await hub.of_node("a", *batch) == "ok"


async def test_who_cannot_be_stored_now_is_asked_to_come_again(hub: Hub) -> None:
    hub.stream.failing = True
    assert await hub.of_node("a", record(), dropped=2) == "busy"
    assert hub.dropped("by the node") == 0


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted(), [3, 2, 1]),
        (Wanted(what="join"), [2]),
        (Wanted(outcome="refused"), [3]),
        (Wanted(who="lamp"), [1]),
        (Wanted(who="node/a"), [2]),
        (Wanted(since=2), [3, 2]),
        (Wanted(since=2, late=True), [3, 2, 1]),
        (Wanted(node="b"), [3]),
    ],
)
async def test_records_are_found_the_newest_first(hub: Hub, wanted: Wanted, ids: list[int]) -> None:
    await hub.of_node("a", record(1), record(2, what="join", who="spiffe://t/node/a", subject=""))
    await hub.of_node("b", record(3, outcome="refused", who="x", subject="", reason="no token"))
    assert [int(r.id, 16) for r in await hub.audit.find(wanted, 9)] == ids


class FakeKube:
    """Lets this caller see nodes, and says whether he may list all devices."""

    def __init__(self, nodes: bool = True, devices: bool = True) -> None:
        self._nodes, self._devices = nodes, devices

    async def list(self, resource: Any) -> None:
        if not self._nodes:
            raise Unauthorized("no")

    async def create(self, resource: Any, namespace: str, body: bytes) -> bytes:
        asked = json.loads(body)["spec"]["resourceAttributes"]
        return json.dumps({"status": {"allowed": self._devices and asked["verb"] == "list"}}).encode()


@pytest.fixture
async def api(hub: Hub) -> AsyncIterator[Any]:
    callers = {"all": FakeKube(), "some": FakeKube(devices=False), "none": FakeKube(nodes=False)}
    app, who = FastAPI(), {"now": "all"}
    problem.install(app)
    shown.routes(app, shown.Book(hub.audit), Depends(lambda: callers[who["now"]]), {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:

        async def get(caller: str, **params: str) -> httpx.Response:
            who["now"] = caller
            return await client.get("/api/v1/audit", params=params)

        yield get


async def test_the_audit_is_for_those_who_may_list_nodes_and_all_devices(hub: Hub, api: Any) -> None:
    await hub.of_node("a", record(1), record(2))
    found = (await api("all", limit="1")).json()["records"]
    assert [(r["id"], r["node"], r["unit"]) for r in found] == [(f"{2:016x}", "a", "edgeidentity")]
    assert (await api("some")).status_code == 403
    assert (await api("none")).status_code == 401


@pytest.mark.parametrize("params", [{"node": "A*"}, {"unit": "a.b"}, {"limit": "0"}, {"since": "-1"}])
async def test_a_wrong_filter_is_named(api: Any, params: dict[str, str]) -> None:
    answer = await api("all", **params)
    assert answer.status_code == 400 and answer.json()["error"]["field"] == next(iter(params))

"""Dead letters at the hub: checked, bounded for each node, found and purged, and for whom the fleet API shows them."""

import base64
import fnmatch
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from canopy.bus.dispatch import Place
from canopy.bus.jsapi import StreamError
from canopy.bus.streams import Value
from canopy.cloudhub import letters as module
from canopy.cloudhub.adapters import letters as shown
from canopy.cloudhub.adapters import problem
from canopy.cloudhub.letters import MOST_OF_ONE, Letters, Which
from canopy.contracts.wire import DeadLetter, LetterBatch
from canopy.kube.api import Listed
from canopy.kube.errors import NotFound, Unauthorized
from canopy.runtime.metrics import Metrics
from canopy.testing.clock import FrozenClock


class FakeStream:
    """Last values in memory."""

    def __init__(self) -> None:
        self.messages: dict[str, Value] = {}
        self.seq, self.failing = 0, False

    async def put(self, address: str, data: bytes, expect: int | None, trace: Any = None) -> int:
        if self.failing:
            raise StreamError(1, "no")
        self.seq += 1
        self.messages[address] = Value(address, self.seq, data)
        return self.seq

    async def purge(self, address: str, upto: int) -> None:
        if self.messages[address].seq <= upto:
            del self.messages[address]

    async def under(self, wild: str) -> list[Value]:
        return [v for a, v in self.messages.items() if fnmatch.fnmatchcase(a, wild)]

    async def addresses(self, wild: str) -> tuple[list[str], int]:
        return [v.subject for v in await self.under(wild)], len(self.messages)


class Hub:
    def __init__(self) -> None:
        self.stream, self.clock, self.metrics = FakeStream(), FrozenClock(), Metrics()
        bus: Any = None
        self.letters = Letters(bus, self.stream, self.clock, self.metrics)

    async def of_node(self, node: str, *letters: DeadLetter, dropped: int = 0) -> str:
        place: Place[LetterBatch] = Place({"node": node}, {}, "")
        return (await self.letters.of_node(LetterBatch(letters=list(letters), dropped=dropped), place)).verdict

    def dropped(self, why: str) -> float:
        return self.metrics.counter("canopy_cloudhub_letters_dropped_total", "").value(why=why)


def letter(number: int = 1, unit: str = "devicetwin", **more: Any) -> DeadLetter:
    given = {"source": "s", "error": "KeyError", "last": number, "body": base64.b64encode(b"{}").decode()}
    return DeadLetter(id=f"{number:016x}", unit=unit, **{**given, **more})


@pytest.fixture
def hub() -> Hub:
    return Hub()


async def test_the_node_is_the_subjects_and_two_nodes_cannot_take_each_others_place(hub: Hub) -> None:
    for node in ("a", "b.c"):
        assert await hub.of_node(node, letter(node="other")) == "ok"
    found = await hub.letters.find(Which())
    assert sorted(f.node for f in found) == ["a", "b.c"] and len({f.id for f in found}) == 2


async def test_the_same_letter_again_takes_the_place_of_the_former_one(hub: Hub) -> None:
    await hub.of_node("a", letter(count=1))
    await hub.of_node("a", letter(count=7))
    assert [f.count for f in await hub.letters.find(Which())] == [7]


@pytest.mark.parametrize(
    "bad", [letter(unit="cloudhub"), letter(count=-1), DeadLetter(id="../x", unit="mapper", source="", error="")]
)
async def test_what_is_no_letter_of_a_node_is_left_out_and_counted(hub: Hub, bad: DeadLetter) -> None:
    assert await hub.of_node("a", bad, letter()) == "ok"
    assert len(await hub.letters.find(Which())) == 1 and hub.dropped("not acceptable") == 1


async def test_a_node_fills_its_own_share_and_no_more(hub: Hub) -> None:
    for n in range(MOST_OF_ONE + 5):
        await hub.of_node("a", letter(n))
    await hub.of_node("b", letter(3), dropped=4)
    await hub.of_node("a", letter(2, count=9))
    assert (
        len(await hub.letters.find(Which(node="a"))) == MOST_OF_ONE
        and len(await hub.letters.find(Which(node="b"))) == 1
    )
    assert (hub.dropped("too many of one"), hub.dropped("by the unit")) == (5, 4)
    assert max(f.count for f in await hub.letters.find(Which(node="a"))) == 9, "one that is there is renewed"


async def test_who_cannot_be_stored_now_is_asked_to_come_again(hub: Hub) -> None:
    hub.stream.failing = True
    assert await hub.of_node("a", letter()) == "busy"


async def test_what_is_big_is_cut(hub: Hub) -> None:
    await hub.of_node("a", letter(text="t" * 9999, traceback="x" * 99999, body="A" * 99999, trace="no trace"))
    (found,) = await hub.letters.find(Which())
    assert len(found.text) <= module.MAX_WORDS and len(found.traceback) <= module.MAX_TRACEBACK_CHARACTERS
    assert (found.body, found.trace) == ("", "")


async def test_letters_are_found_newest_first_by_unit_node_and_time_and_purged_so(hub: Hub) -> None:
    await hub.of_node("a", letter(1), letter(2, unit="mapper"), letter(3))
    await hub.of_node("b", letter(4))
    place: Place[LetterBatch] = Place({"unit": "cloudhub"}, {}, "")
    await hub.letters.of_unit(LetterBatch(letters=[letter(5, unit="cloudhub")]), place)
    assert [f.last for f in await hub.letters.find(Which())] == [5, 4, 3, 2, 1]
    assert [f.last for f in await hub.letters.find(Which(unit="devicetwin", since=3))] == [4, 3]
    assert await hub.letters.purge(Which(node="a", since=2)) == 2
    assert [f.last for f in await hub.letters.find(Which())] == [5, 4, 1]


async def test_one_that_has_not_failed_for_long_is_let_go(hub: Hub) -> None:
    await hub.of_node("a", letter(1), letter(hub.clock.now_ms()))
    await hub.letters.expire()
    assert [f.last for f in await hub.letters.find(Which())] == [hub.clock.now_ms()] and hub.dropped("too old") == 1


# --- the fleet API ----------------------------------------------------------------------------------------------------
class FakeKube:
    """Answers access reviews as its token says; `none` is a Kubernetes without them."""

    def __init__(self, token: str) -> None:
        self.token = token

    async def list(self, *_: Any, **__: Any) -> Listed:
        if not self.token:
            raise Unauthorized("who?", 401)
        return Listed((), 1)

    async def create(self, resource: Any, namespace: str, body: bytes) -> bytes:
        if self.token == "none":
            raise NotFound("no such resource", 404)
        verb = json.loads(body)["spec"]["resourceAttributes"]["verb"]
        return json.dumps({"status": {"allowed": self.token == "admin" or verb == "list"}}).encode()


@pytest.fixture
async def api(hub: Hub) -> AsyncIterator[Any]:
    app, kube = FastAPI(), FakeKube("admin")
    problem.install(app)
    shown.routes(app, shown.Shelf(hub.letters), Depends(lambda: kube), {})
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api/api/v1")

    async def call(method: str, path: str, token: str = "admin") -> Any:
        kube.token = token
        answer = await client.request(method, path)
        return answer.status_code, answer.json()

    yield call
    await client.aclose()


async def test_one_letter_is_shown_with_its_body_as_text_and_its_trace(hub: Hub, api: Any) -> None:
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    cut = '{"a": "é'.encode()[:-1]
    await hub.of_node("a", letter(traceback="Traceback ...", body=base64.b64encode(cut).decode(), trace=trace))
    _, listed = await api("GET", "/deadletters")
    (summary,) = listed["deadletters"]
    assert "body" not in summary and summary["trace_id"] == "ab" * 16
    status, one = await api("GET", f"/deadletters/{summary['id']}")
    assert status == 200 and one["body_text"] == '{"a": "' and one["traceback"] == "Traceback ..."
    assert await api("DELETE", f"/deadletters/{summary['id']}") == (200, {"purged": 1})
    assert (await api("GET", f"/deadletters/{summary['id']}"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "token", "code"),
    [
        ("GET", "/deadletters", "reader", 200),
        ("DELETE", "/deadletters", "reader", 403),
        ("DELETE", "/deadletters/0000000000000001", "reader", 403),
        ("DELETE", "/deadletters", "none", 200),
        ("GET", "/deadletters", "", 401),
        ("GET", "/deadletters?node=*", "admin", 400),
        ("GET", "/deadletters?unit=a.b", "admin", 400),
        ("GET", "/deadletters?since=yesterday", "admin", 400),
        ("GET", "/deadletters/*", "admin", 400),
        ("DELETE", "/deadletters/%3E", "admin", 400),
    ],
)
async def test_the_callers_own_rights_decide(api: Any, method: str, path: str, token: str, code: int) -> None:
    assert (await api(method, path, token))[0] == code

"""Joining over the fleet API: who may, what is asked over the bus, and how each answer is shown."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from canopy.bus.outcome import AskTimeout, NoResponders
from canopy.cloudhub.adapters import joining, problem
from canopy.contracts.catalogue import IDENTITY_NODES, IDENTITY_REVOKE, IDENTITY_TOKEN
from canopy.contracts.identity_wire import NodeIdentity, NodesAnswer, NodesAsk, RevokeAsk, TokenAnswer, TokenAsk
from canopy.contracts.wire import Verdict
from canopy.kube.errors import NotFound, Unauthorized

EDGE = NodeIdentity(node="edge-1", public_key="", by="token a", not_after=7)


class FakeKube:
    """Knows its caller's name, and says which verbs he may on Nodes."""

    def __init__(self, *verbs: str, name: str = "ann", known: bool = True) -> None:
        self._verbs, self._name, self._known = verbs, name, known

    async def list(self, resource: Any) -> None:
        if not self._known:
            raise Unauthorized("no")

    async def create(self, resource: Any, namespace: str, body: bytes) -> bytes:
        asked = json.loads(body)
        if asked["kind"] == "SelfSubjectReview":
            if not self._name:
                raise NotFound("no such resource", 404)
            return json.dumps({"status": {"userInfo": {"username": self._name}}}).encode()
        attributes = asked["spec"]["resourceAttributes"]
        assert (attributes["group"], attributes["resource"]) == ("", "nodes")
        return json.dumps({"status": {"allowed": attributes["verb"] in self._verbs}}).encode()


class FakeBus:
    """Answers as told; keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any]] = []
        self.answers: dict[Any, Any] = {
            IDENTITY_TOKEN: TokenAnswer(token="canopy-join.x", expires_at=9),
            IDENTITY_REVOKE: Verdict(),
            IDENTITY_NODES: NodesAnswer(nodes=[EDGE]),
        }

    async def ask(self, subject: Any, ask: Any, timeout: float) -> Any:
        self.asked.append((subject, ask))
        answer = self.answers[subject]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
async def api(bus: FakeBus) -> AsyncIterator[Any]:
    callers = {
        "all": FakeKube("create", "delete"),
        "maker": FakeKube("create"),
        "reader": FakeKube(),
        "nameless": FakeKube("create", "delete", name=""),
        "nobody": FakeKube(known=False),
    }
    app, who = FastAPI(), {"now": "all"}
    problem.install(app)
    joining.routes(app, joining.Desk(bus), Depends(lambda: callers[who["now"]]), {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x/api/v1") as client:

        async def call(caller: str, method: str, path: str, **more: Any) -> httpx.Response:
            who["now"] = caller
            return await client.request(method, path, **more)

        yield call


async def test_a_token_is_asked_for_in_the_callers_name_and_kept_by_no_cache(api: Any, bus: FakeBus) -> None:
    answer = await api("all", "POST", "/nodes/edge-1/token", json={"ttl_seconds": 60})
    assert answer.json() == {"node": "edge-1", "token": "canopy-join.x", "expires_at": 9}
    assert answer.headers["cache-control"] == "no-store"
    await api("nameless", "POST", "/nodes/edge.2/token")
    asked = [ask for _, ask in bus.asked]
    assert asked == [
        TokenAsk(node="edge-1", ttl_seconds=60, by="ann"),
        TokenAsk(node="edge.2", ttl_seconds=600, by="a user of the fleet API"),
    ]


async def test_a_node_is_revoked_and_restored_with_the_reason(api: Any, bus: FakeBus) -> None:
    answer = await api("all", "POST", "/nodes/edge-1/revoke", json={"reason": "stolen"})
    assert answer.json() == {"node": "edge-1", "revoked": True}
    answer = await api("all", "POST", "/nodes/edge-1/restore")
    assert answer.json() == {"node": "edge-1", "revoked": False}
    asked = [ask for _, ask in bus.asked]
    assert asked == [
        RevokeAsk(node="edge-1", by="ann", reason="stolen"),
        RevokeAsk(node="edge-1", by="ann", restore=True),
    ]


@pytest.mark.parametrize(
    ("caller", "path", "code"),
    [
        ("reader", "token", 403),
        ("reader", "revoke", 403),
        ("reader", "restore", 403),
        ("maker", "revoke", 403),
        ("nobody", "token", 401),
        ("nobody", "revoke", 401),
    ],
)
async def test_it_is_for_those_who_may_do_the_same_with_nodes(
    api: Any, bus: FakeBus, caller: str, path: str, code: int
) -> None:
    assert (await api(caller, "POST", f"/nodes/edge-1/{path}")).status_code == code
    assert (await api("nobody", "GET", "/identities")).status_code == 401
    assert not bus.asked


async def test_identities_are_read_page_by_page_by_whoever_may_see_nodes(api: Any, bus: FakeBus) -> None:
    other = NodeIdentity(node="edge-2", revoked_at=3, reason="stolen")
    bus.answers[IDENTITY_NODES] = [NodesAnswer(nodes=[EDGE], next="edge-1"), NodesAnswer(nodes=[other])]
    found = (await api("reader", "GET", "/identities")).json()["identities"]
    assert [(one["node"], one["not_after"], one["reason"]) for one in found] == [
        ("edge-1", 7, ""),
        ("edge-2", 0, "stolen"),
    ]
    assert "public_key" not in found[0]
    assert [ask for _, ask in bus.asked] == [NodesAsk(), NodesAsk(after="edge-1")]


@pytest.mark.parametrize(
    ("said", "code", "word"),
    [
        (TokenAnswer(verdict="invalid", reason="edge-1 was revoked"), 400, "revoked"),
        (TokenAnswer(verdict="busy", reason="the hub"), 503, "the hub"),
        (NoResponders("x"), 503, "is spire_integration running"),
        (AskTimeout("x"), 503, "try again"),
    ],
)
async def test_what_spire_integration_says_is_passed_on(
    api: Any, bus: FakeBus, said: Any, code: int, word: str
) -> None:
    bus.answers[IDENTITY_TOKEN] = said
    answer = await api("all", "POST", "/nodes/edge-1/token")
    assert (answer.status_code, word in answer.json()["error"]["reason"]) == (code, True)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("Edge_1/token", {}, "node"),
        ("edge-1/token", {"ttl_seconds": 1}, "ttl_seconds"),
        ("edge-1/revoke", {"reason": "x" * 301}, "reason"),
    ],
)
async def test_what_is_wrong_is_named(api: Any, bus: FakeBus, path: str, body: Any, field: str) -> None:
    answer = await api("all", "POST", f"/nodes/{path}", json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
    assert not bus.asked

"""The fleet API over ASGI, with a small Kubernetes in memory that knows whose token may see what."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from canopy.cloudhub.adapters import http
from canopy.cloudhub.adapters.access import Access
from canopy.cloudhub.adapters.fleet import Fleet, Where
from canopy.cloudhub.adapters.watch import Scope, events
from canopy.cloudhub.adapters.whys import Whys
from canopy.cloudhub.core import Bounds, accepted, said, stored
from canopy.cloudhub.counts import Counts
from canopy.cloudhub.live import Live
from canopy.cloudhub.records import Records
from canopy.cloudhub.view import View
from canopy.cloudhub.watching import Watchers
from canopy.contracts.catalogue import TWINS
from canopy.contracts.wire import Presence, UnitCheck, UnitHealth, encode
from canopy.kube.api import Kube, Listed
from canopy.kube.errors import Conflict, Forbidden, KubeError, NotFound, Unauthorized, Unavailable
from canopy.kube.resource import Resource
from canopy.runtime.logs import once_per
from canopy.runtime.metrics import Metrics
from canopy.runtime.telemetry import Telemetry
from canopy.store.memory import MemoryCache
from canopy.testing.clock import FrozenClock

ADMIN, READER = "admin-token", "reader-token"


@dataclass
class FakeKube:
    """Get, list and merge patch; `reader` may only look, and only into `default`."""

    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    token: str = ADMIN
    revision: list[int] = field(default_factory=lambda: [0])
    before_patch: list[Any] = field(default_factory=list)
    down: list[KubeError] = field(default_factory=list)

    def put(self, plural: str, namespace: str, name: str, body: dict[str, Any]) -> None:
        self.revision[0] += 1
        meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1, **body.get("metadata", {})}
        self.objects[plural, namespace, name] = {**body, "metadata": {**meta, "resourceVersion": str(self.revision[0])}}

    async def get(self, resource: Resource, namespace: str, name: str) -> bytes:
        self._check(namespace, write=False)
        found = self.objects.get((resource.plural, namespace, name))
        if found is None:
            raise NotFound(f'{resource.plural} "{name}" not found', 404)
        return json.dumps(found).encode()

    async def list(self, resource: Resource, namespace: str = "", **_: str) -> Listed:
        self._check(namespace, write=False)
        found = [o for (p, n, _), o in self.objects.items() if p == resource.plural and namespace in ("", n)]
        return Listed(tuple(json.dumps(o).encode() for o in found), self.revision[0])

    async def patch(self, resource: Resource, namespace: str, name: str, body: bytes, **_: Any) -> bytes:
        self._check(namespace, write=True)
        for act in self.before_patch[:1]:
            self.before_patch.pop(0)
            act()
        found, change = self.objects[resource.plural, namespace, name], json.loads(body)
        if change["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified", 409)
        spec = {**found["spec"], **change["spec"]}
        self.put(resource.plural, namespace, name, {**found, "spec": spec})
        return await self.get(resource, namespace, name)

    def with_token(self, token: str) -> "FakeKube":
        return FakeKube(self.objects, token, self.revision, self.before_patch, self.down)

    def _check(self, namespace: str, write: bool) -> None:
        for error in self.down:
            raise error
        if self.token not in (ADMIN, READER):
            raise Unauthorized("Unauthorized", 401)
        if self.token == READER and (write or namespace != "default"):
            raise Forbidden("user reader cannot do this", 403)


MODEL = {
    "spec": {
        "properties": [
            {"name": "switch", "type": "BOOLEAN", "accessMode": "ReadWrite"},
            {"name": "level", "type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "100"},
            {"name": "ratio", "type": "FLOAT", "accessMode": "ReadWrite"},
            {"name": "power", "type": "FLOAT", "accessMode": "ReadOnly"},
        ]
    }
}


def device(node: str = "edge-1", **metadata: Any) -> dict[str, Any]:
    properties = [
        {"name": "switch", "desired": {"value": "false", "metadata": {"type": "boolean"}}, "collectCycle": 500},
        {"name": "power", "visitors": {"protocolName": "modbus"}},
    ]
    spec = {"deviceModelRef": {"name": "lamp"}, "nodeName": node, "properties": properties}
    return {"spec": spec, "metadata": metadata}


CLOUD = [UnitHealth(unit="devicecontroller", run="r", checks=[UnitCheck(check="c")], facts={"leads": "yes"})]


class Api:
    """The app and what stands behind it."""

    def __init__(self, stream: Any, make_report: Any, token: str = "") -> None:
        self.kube, self.clock, self.stream, self.make_report = FakeKube(), FrozenClock(), stream, make_report
        self.cache, self.view = MemoryCache(self.clock.monotonic), View()
        counts, say = Counts.of(Metrics()), once_per(60)
        self.records = Records(stream, self.view, self.clock, counts, say, Bounds())
        self.live = Live(self.cache, self.records, self.clock, counts, say, random.Random(1))
        self.watchers = Watchers(counts, 2, 3)
        self.fleet = Fleet(self.live, self.clock)
        kube: Any = self.kube
        self.app = http.build(
            self.fleet, Access(kube, token), self.watchers, self.clock, Telemetry("t", enabled=False), lambda: True,
            whys=Whys(self.fleet, self.live, lambda: CLOUD, self.clock, 40_000),
        )  # fmt: skip
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://api")
        self.kube.put("devicemodels", "default", "lamp", MODEL)

    async def call(self, method: str, path: str, token: str = ADMIN, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= more.pop("headers", {})
        return await self.client.request(method, f"/api/v1{path}", headers=headers, **more)

    def sent(self, node: str, name: str, value: str, n: int = 1) -> bytes:
        """A node has reported."""
        record = accepted(said(self.make_report(name, value, uid=f"uid-{name}")), node, (1, n), 5, Bounds())
        data = encode(record)
        seq = self.stream.force(TWINS.at(node=node, namespace="default", name=name), data)
        self.view.put(node, stored(data, seq))
        return data


@pytest.fixture
async def api(stream: Any, make_report: Any) -> AsyncIterator[Api]:
    api = Api(stream, make_report)
    yield api
    await api.client.aclose()


async def test_a_device_is_shown_with_its_model_its_status_and_its_live_twin(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    api.kube.put("devicestatuses", "default", "light", {"status": {"state": "online"}})
    api.sent("edge-1", "light", "7")
    found = (await api.call("GET", "/devices/default/light")).json()
    assert found["twin"]["twins"]["t"]["reported"] == {"value": "7", "timestamp": 1}
    assert (found["node"], found["desired"], found["status"]) == ("edge-1", {"switch": "false"}, {"state": "online"})
    assert {p["name"]: p["access_mode"] for p in found["properties"]}["power"] == "ReadOnly"
    assert (await api.call("GET", "/devices/default/light/twin")).json()["revision"] == 1
    listed = (await api.call("GET", "/devices?namespace=default&node=edge-1")).json()["devices"]
    assert [(d["name"], d["state"]) for d in listed] == [("light", "online")]
    assert (await api.call("GET", "/devices?node=edge-2")).json() == {"devices": []}


async def test_what_another_node_claims_of_a_device_is_not_shown(api: Api) -> None:
    api.kube.put("devices", "default", "light", device("edge-1"))
    api.kube.put("devices", "default", "lamp", device("edge-2"))
    api.sent("edge-2", "light", "666")
    assert (await api.call("GET", "/devices/default/light")).json()["twin"] is None
    assert (await api.call("GET", "/devices/default/light/twin")).status_code == 404
    assert all(d["twin"] is None for d in (await api.call("GET", "/devices")).json()["devices"])


async def test_nodes_are_shown_as_kubernetes_knows_them_and_as_they_were_heard(api: Api) -> None:
    api.kube.put("nodes", "", "edge-1", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    api.kube.put("nodes", "", "edge-2", {})
    presence = Presence(node="edge-1", at=api.clock.now_ms(), session=9, version="0.1.0", health={"devicetwin": "ok"})
    await api.cache.hset("presence", {"edge-1": encode(presence)})
    nodes = {n["name"]: n for n in (await api.call("GET", "/nodes")).json()["nodes"]}
    assert (nodes["edge-1"]["online"], nodes["edge-1"]["ready"], nodes["edge-1"]["version"]) == (True, True, "0.1.0")
    assert (nodes["edge-2"]["online"], nodes["edge-2"]["last_heard"]) == (False, None)
    await api.clock.advance(41)
    assert (await api.call("GET", "/nodes/edge-1")).json()["online"] is False


async def test_why_walks_what_kubernetes_and_the_node_say(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    api.kube.put("nodes", "", "edge-1", {"metadata": {"labels": {"node.canopy.dev/managed": "true"}}})
    found = (await api.call("GET", "/devices/default/light/why")).json()
    assert (found["exists"], found["well"], found["stops_at"]["step"]) == (True, False, "link")
    units = [UnitHealth(unit="devicetwin", checks=[UnitCheck(check="c", ok=False, detail="disk full")])]
    presence = Presence(node="edge-1", at=api.clock.now_ms(), session=9, units=units)
    await api.cache.hset("presence", {"edge-1": encode(presence)})
    found = (await api.call("GET", "/devices/default/light/why")).json()
    assert found["stops_at"]["text"] == "devicetwin on edge-1: c: disk full"
    assert [s["verdict"] for s in found["steps"][:4]] == ["ok", "ok", "ok", "stop"]
    node = (await api.call("GET", "/nodes/edge-1")).json()
    assert node["units"][0]["wrong"] == "c: disk full" and node["units"][0]["well"] is False


async def test_why_of_a_device_that_does_not_exist_names_one_that_does(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    found = (await api.call("GET", "/devices/default/ligth/why")).json()
    assert found["exists"] is False and "is it light?" in found["stops_at"]["text"]


async def test_why_says_so_when_kubernetes_does_not_answer(api: Api) -> None:
    api.kube.down.append(Unavailable("no connection"))
    found = (await api.call("GET", "/devices/default/light/why")).json()
    assert found["stops_at"]["text"] == "Kubernetes does not answer CloudHub: no connection"


async def test_who_may_see_one_namespace_gets_why_without_the_nodes(api: Api) -> None:
    api.kube.put("devices", "default", "light", device("edge-9"))
    found = (await api.call("GET", "/devices/default/light/why", READER)).json()
    assert "has not been heard since" in found["stops_at"]["text"]  # not: there is no such node


async def test_the_fleet_is_one_page(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    api.kube.put("nodes", "", "edge-1", {"metadata": {"labels": {"node.canopy.dev/managed": "true"}}})
    api.kube.put("nodes", "", "a-kubelet", {})
    api.sent("edge-1", "light", "7")
    found = (await api.call("GET", "/status")).json()
    assert (found["well"], found["nodes"], found["devices"]) == (False, {"away": 1}, {"online": 1})
    assert found["units"][1] == {"unit": "devicecontroller", "replicas": 1, "leader": True, "wrong": ""}
    assert found["troubled_nodes"] == [{"name": "edge-1", "state": "away", "since": None, "why": "not heard"}]


@pytest.mark.parametrize(
    ("method", "path", "token", "code"),
    [
        ("GET", "/status", READER, 403),
        ("GET", "/devices/default/light/why", "", 401),
        ("GET", "/devices/default/light/why", "wrong", 401),
        ("GET", "/devices/other/light/why", READER, 403),
        ("GET", "/devices/Default/light/why", ADMIN, 400),
        ("GET", "/devices", "", 401),
        ("GET", "/devices", "wrong", 401),
        ("GET", "/devices", READER, 403),
        ("GET", "/devices?namespace=default", READER, 200),
        ("GET", "/nodes", READER, 403),
        ("PUT", "/devices/default/light/desired", READER, 403),
        ("GET", "/devices/default/none", ADMIN, 404),
        ("GET", "/devices/default/A%2F..", ADMIN, 404),
        ("GET", "/devices/Default/light", ADMIN, 400),
        ("GET", "/watch?name=a%2Fb", ADMIN, 400),
        ("GET", "/watch", READER, 403),
        ("GET", "/nothing", ADMIN, 404),
        ("DELETE", "/devices/default/light", ADMIN, 405),
    ],
)
async def test_the_callers_own_rights_decide(api: Api, method: str, path: str, token: str, code: int) -> None:
    api.kube.put("devices", "default", "light", device())
    answer = await api.call(method, path, token, **({"json": {"switch": "true"}} if method == "PUT" else {}))
    assert answer.status_code == code
    if code >= 400:
        error = answer.json()["error"]
        assert error["code"] == code and error["reason"]


async def test_standalone_only_the_apis_own_token_opens_it(stream: Any, make_report: Any) -> None:
    api = Api(stream, make_report, token="secret")
    assert (await api.call("GET", "/devices", "secret")).status_code == 200
    assert (await api.call("GET", "/devices", ADMIN)).status_code == 401
    await api.client.aclose()


async def test_setting_desired_keeps_every_other_property_and_says_what_is_set(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    answer = await api.call("PUT", "/devices/default/light/desired", json={"switch": "true", "level": "40"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["desired"] == {"switch": "true", "level": "40"}
    assert api.kube.objects["devices", "default", "light"]["spec"]["properties"] == [
        {"name": "switch", "desired": {"value": "true", "metadata": {"type": "boolean"}}, "collectCycle": 500},
        {"name": "power", "visitors": {"protocolName": "modbus"}},
        {"name": "level", "desired": {"value": "40"}},
    ]


async def test_a_change_in_between_is_not_lost(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())

    def meanwhile() -> None:
        body = device()
        body["spec"]["properties"].append({"name": "level", "desired": {"value": "9"}})
        api.kube.put("devices", "default", "light", body)

    api.kube.before_patch.append(meanwhile)
    answer = await api.call("PUT", "/devices/default/light/desired", json={"switch": "true"})
    assert answer.json()["desired"] == {"switch": "true", "level": "9"}


async def test_who_meets_changes_again_and_again_is_told(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    api.kube.before_patch += [lambda: api.kube.put("devices", "default", "light", device())] * 5
    answer = await api.call("PUT", "/devices/default/light/desired", json={"switch": "true"})
    assert answer.status_code == 409


@pytest.mark.parametrize(
    ("body", "field", "right"),
    [
        ('{"nope": "1"}', "nope", "there are switch, power, level, ratio"),
        ('{"power": "1"}', "power", "ReadOnly"),
        ('{"level": "101"}', "level", "at least 0 and at most 100"),
        ('{"level": "-1"}', "level", "at least 0"),
        ('{"level": "4.5"}', "level", "whole number"),
        ('{"level": "1_0"}', "level", "whole number"),
        ('{"ratio": "nan"}', "ratio", "a number"),
        ('{"switch": "on"}', "switch", "true or false"),
        ('{"switch": true}', "switch", "string"),
        ('{"switch": "true", "level": "x"}', "level", "whole number"),
        ("{}", "body", "property"),
        ("[]", "body", "JSON object"),
        ("{", "body", "JSON"),
        ("", "body", "required"),
    ],
)
async def test_a_wrong_value_is_refused_by_its_name_and_nothing_is_set(
    api: Api, body: str, field: str, right: str
) -> None:
    api.kube.put("devices", "default", "light", device())
    before = api.kube.objects["devices", "default", "light"]
    answer = await api.call("PUT", "/devices/default/light/desired", content=body)  # JSON, whatever its content type
    error = answer.json()["error"]
    assert (answer.status_code, error["field"]) == (400, field), answer.text
    assert right.lower() in error["reason"].lower()
    assert api.kube.objects["devices", "default", "light"] is before


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/json"])
async def test_a_body_is_json_whatever_the_client_calls_it(api: Api, kind: str) -> None:
    api.kube.put("devices", "default", "light", device())
    path, headers = "/devices/default/light/desired", {"Content-Type": kind}
    answer = await api.call("PUT", path, content='{"switch": "true"}', headers=headers)
    assert (answer.status_code, answer.json().get("desired")) == (200, {"switch": "true"}), answer.text


@pytest.mark.parametrize("path", ["/watch?device=default/light", "/devices?limit=1", "/nodes?name=x"])
async def test_a_parameter_that_there_is_not_is_named(api: Api, path: str) -> None:
    answer = await api.call("GET", path)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] in path and "no such parameter" in answer.json()["error"]["reason"]


async def test_trouble_behind_the_api_is_a_503_in_the_same_shape(api: Api) -> None:
    api.kube.down.append(Unavailable("no answer in time"))
    answer = await api.call("GET", "/devices")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "no answer in time" in answer.json()["error"]["reason"]


async def test_a_body_that_is_too_big_is_not_read(api: Api) -> None:
    answer = await api.call("PUT", "/devices/default/light/desired", content=b"x" * 300_000)
    assert answer.status_code == 413


async def test_the_live_twins_come_from_twins_while_the_cache_does_not_answer(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    api.sent("edge-1", "light", "7")
    await api.cache.close()
    assert (await api.call("GET", "/devices")).json()["devices"][0]["twin"]["revision"] == 1


async def test_the_documentation_needs_nothing_from_outside(api: Api) -> None:
    page = (await api.client.get("/docs")).text
    assert "openapi.json" in page and "//" not in page.replace("<!--", "").split("</style>")[1]
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    assert "/api/v1/devices/{namespace}/{name}/desired" in paths
    assert (await api.client.get("/healthz")).text == "ok\n"


# --- watch ------------------------------------------------------------------------------------------------------------
class Reading:
    """The events of one watch."""

    def __init__(self, api: Api, where: Where, token: str = ADMIN) -> None:
        kube: Kube = api.kube.with_token(token)  # type: ignore[assignment]
        self._events = events(Scope(api.fleet, kube, where, api.clock), api.watchers)

    async def next(self) -> tuple[str, Any]:
        async with asyncio.timeout(5):
            text = (await anext(self._events)).decode()
        kind, _, data = text.partition("\ndata: ")
        return kind.removeprefix("event: "), json.loads(data)

    async def ended(self) -> bool:
        try:
            await anext(self._events)
        except StopAsyncIteration:
            return True
        return False

    async def close(self) -> None:
        await self._events.aclose()  # type: ignore[attr-defined]


async def test_a_watch_says_what_is_and_then_what_changes(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    api.sent("edge-1", "light", "7")
    reading = Reading(api, Where("default"))
    assert (await reading.next())[1]["twins"]["t"]["reported"]["value"] == "7"
    assert (await reading.next())[0] == "synced"
    api.watchers.changed("edge-1", ("other", "light"), b"not of this namespace")
    api.watchers.changed("edge-1", ("default", "light"), api.sent("edge-1", "light", "8", n=2))
    assert (await reading.next())[1]["twins"]["t"]["reported"]["value"] == "8"
    await reading.close()


async def test_a_watch_shows_a_new_device_at_once_and_no_claims_of_others(api: Api) -> None:
    reading = Reading(api, Where())
    assert await reading.next() == ("synced", {})
    api.kube.put("devices", "default", "light", device())
    api.watchers.changed("edge-2", ("default", "light"), api.sent("edge-2", "light", "666"))
    api.watchers.changed("edge-1", ("default", "light"), api.sent("edge-1", "light", "1"))
    assert (await reading.next())[1]["node"] == "edge-1"
    await reading.close()


async def test_a_slow_watcher_is_told_and_let_go(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    reading = Reading(api, Where())
    await reading.next()
    for n in range(5):
        api.watchers.changed("edge-1", ("default", "light"), api.sent("edge-1", "light", "1", n=n))
    kind, body = await reading.next()
    assert kind == "slow" and "too slowly" in body["error"]["reason"]
    assert await reading.ended()


async def test_a_watch_begins_anew_when_the_stream_was_read_anew(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    reading = Reading(api, Where())
    assert (await reading.next())[0] == "synced"
    api.sent("edge-1", "light", "3")
    api.watchers.begin_again()
    assert [(await reading.next())[0] for _ in range(2)] == ["twin", "synced"]
    await reading.close()


async def test_who_loses_the_right_to_look_loses_the_watch_within_a_minute(api: Api) -> None:
    api.kube.put("devices", "default", "light", device())
    reading = Reading(api, Where("default"), READER)
    await reading.next()
    await api.clock.advance(61)
    api.kube.down.append(Forbidden("no longer", 403))
    api.watchers.changed("edge-1", ("default", "none"), api.sent("edge-1", "none", "1"))
    kind, body = await reading.next()
    assert (kind, body["error"]["code"]) == ("error", 403)
    assert await reading.ended()


async def test_more_watchers_than_may_are_refused_and_all_end_with_the_unit(api: Api) -> None:
    readings = [Reading(api, Where()) for _ in range(3)]
    for reading in readings[:2]:
        await reading.next()
    assert (await readings[2].next())[0] == "error"
    api.watchers.close()
    assert [(await r.next())[0] for r in readings[:2]] == ["closed", "closed"]

"""Who may see which trace: only who may see every device that it names; one that names none is for who sees Nodes."""

import json
from typing import Any

import pytest

from canopy.cloudhub.adapters.fleet import Fleet
from canopy.cloudhub.adapters.problem import Problem
from canopy.cloudhub.adapters.traced import MOST_DEVICES, Shown
from canopy.cloudhub.traces import Traces
from canopy.contracts.wire import SpanRecord
from canopy.kube.api import Listed
from canopy.kube.errors import Forbidden, NotFound
from canopy.kube.resource import DEVICES, Resource


class Caller:
    """Kubernetes as one caller sees it: the Devices of some namespaces, and Nodes or not."""

    def __init__(self, *namespaces: str, nodes: bool = False) -> None:
        self._namespaces, self._nodes = namespaces, nodes

    async def get(self, resource: Resource, namespace: str, name: str) -> bytes:
        if namespace not in self._namespaces:
            raise Forbidden("no", 403)
        if name == "gone":
            raise NotFound("no", 404)
        return _device(namespace, name)

    async def list(self, resource: Resource, namespace: str = "", **_: Any) -> Listed:
        allowed = self._nodes if resource != DEVICES else set(self._namespaces) >= {"mine", "theirs"}
        if not allowed:
            raise Forbidden("no", 403)
        names = [("mine", "light"), ("theirs", "pump"), *(("mine", f"d{i}") for i in range(MOST_DEVICES + 1))]
        return Listed(tuple(_device(*name) for name in names), 1)


def _device(namespace: str, name: str) -> bytes:
    return json.dumps({"metadata": {"namespace": namespace, "name": name, "uid": "u"}, "spec": {}}).encode()


MINE, THEIRS, BOTH, NOBODYS, MANY, GONE = (letter * 32 for letter in "abcdef")
NAMED: dict[str, list[str]] = {
    MINE: ["mine/light"],
    THEIRS: ["theirs/pump"],
    BOTH: ["mine/light", "theirs/pump"],
    NOBODYS: [""],
    MANY: [f"mine/d{i}" for i in range(MOST_DEVICES + 1)],
    GONE: ["mine/light", "mine/gone"],
}


@pytest.fixture
def shown() -> Shown:
    traces: Any = Traces(1000, 1000)
    for trace, devices in NAMED.items():
        for number, device in enumerate(devices):
            about = {"device": device} if device else {}
            span = SpanRecord(
                trace=trace, id=f"{number:016x}", unit="u", name="n", kind="server", start=1, end=2, attributes=about
            )
            traces.add([span])
    fleet: Any = Fleet.__new__(Fleet)  # only its listing is asked, which holds nothing
    return Shown(fleet, traces)


ME, ADMIN = Caller("mine"), Caller("mine", "theirs", nodes=True)


@pytest.mark.parametrize(
    ("caller", "trace", "seen"),
    [
        (ME, MINE, True),
        (ME, THEIRS, False),
        (ME, BOTH, False),
        (ME, GONE, False),
        (ADMIN, THEIRS, True),
        (ADMIN, BOTH, True),
        (ADMIN, MANY, True),
        (ADMIN, NOBODYS, True),
        (ADMIN, "0" * 32, False),
    ],
)
async def test_a_trace_is_shown_to_who_may_see_every_device_in_it(
    shown: Shown, caller: Any, trace: str, seen: bool
) -> None:
    """What is not shown looks as if it were not kept: nobody learns that it is there."""
    if seen:
        assert (await shown.one(caller, trace)).trace_id == trace
        return
    with pytest.raises(Problem, match="no such trace is kept") as problem:
        await shown.one(caller, trace)
    assert problem.value.code == 404


@pytest.mark.parametrize("trace", [NOBODYS, MANY])
async def test_what_names_no_device_or_too_many_is_for_who_may_list_them(shown: Shown, trace: str) -> None:
    me: Any = ME
    with pytest.raises(Forbidden):
        await shown.one(me, trace)


async def test_a_list_holds_only_traces_of_which_all_devices_are_the_callers(shown: Shown) -> None:
    me, admin = ME, ADMIN
    mine = await shown.newest(me, "mine/light", 10)  # type: ignore[arg-type]
    assert [t.trace_id for t in mine.traces] == [MINE]
    with pytest.raises(Forbidden):
        await shown.newest(me, "theirs/pump", 10)  # type: ignore[arg-type]
    with pytest.raises(Forbidden):
        await shown.newest(me, "", 10)  # type: ignore[arg-type]
    every = {t.trace_id for t in (await shown.newest(admin, "", 10)).traces}  # type: ignore[arg-type]
    assert every == {MINE, THEIRS, BOTH, MANY}
    assert len((await shown.newest(admin, "", 2)).traces) == 2  # type: ignore[arg-type]

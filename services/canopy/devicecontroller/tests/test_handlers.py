"""The shell with fakes: the order of its reads, and what it does when something fails."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import pytest
from msgspec import Raw, structs

from canopy.bus import Retry
from canopy.bus.streams import Value
from canopy.contracts.devices import DEVICE, MODEL, Condition
from canopy.contracts.devices import DeviceState as Shown
from canopy.contracts.wire import DeviceState, Entry, PageAsk, Put, SetAsk, TwinRecord, encode
from canopy.devicecontroller.counts import Counts
from canopy.devicecontroller.handlers import ConditionWriter, Pages, Pusher, StatusWriter, address, key_of
from canopy.devicecontroller.objects import Seen, Source, StatusSeen
from canopy.devicecontroller.replica import Replica
from canopy.kube.errors import Conflict, Invalid, Unavailable
from canopy.runtime.metrics import Metrics
from canopy.runtime.worker import Worked
from canopy.testing.clock import FrozenClock

KEY = ("a", "default", "d")
TWIN = TwinRecord(
    node="a", namespace="default", name="d", uid="u", device_revision=1, session=1, n=1, revision=1, digest="x",
    received=0, state=DeviceState(state="online"),
)  # fmt: skip


def device(name="d", node="a", model="m", size=2, revision=5):
    put = Put(Entry(DEVICE, "default", name, "u", f"{revision:016x}"), Raw(b"{}")) if size < 200_000 else None
    return Seen(DEVICE, "default", name, "u", revision, 1, size, put, node, model)


def replica(*devices):
    made = Replica()
    made.epoch, made.cluster, made.statuses_synced, made.nodes_synced = 1, "c", True, True
    for seen in devices:
        made.changed(None, seen)
    made.moved(DEVICE, 5), made.moved(MODEL, 5)
    return made


class Twins:
    """TWINS with one record; `meanwhile` happens while it is read."""

    def __init__(self, record=TWIN, meanwhile=lambda: None):
        self.record, self.meanwhile, self.purged = record, meanwhile, []

    async def get(self, address):
        self.meanwhile()
        return Value(address, 7, encode(self.record)) if self.record else None

    async def purge(self, address, upto):
        self.purged.append((address, upto))


class Store:
    def __init__(self, error=None):
        self.error, self.writes = error, []

    async def write(self, write):
        self.writes.append(write)
        if self.error:
            raise self.error


def writer(replica, twins, store, leads=True):
    return StatusWriter(replica, twins, store.write, lambda: leads, Counts(Metrics()))


async def test_the_status_is_read_before_twins_so_that_a_write_between_makes_ours_fail():
    """RULES 24. Seen to fail with the two lines of `_judge` the other way round."""
    known, store = replica(device()), Store()
    known.status(("default", "d"), StatusSeen("default", "d", "u", "100", Shown(), Source()))

    def somebody_writes():
        known.status(("default", "d"), StatusSeen("default", "d", "u", "101", Shown(), Source()))

    await writer(known, Twins(meanwhile=somebody_writes), store).look(KEY)
    assert [w.resource_version for w in store.writes] == ["100"]


@pytest.mark.parametrize("error", [Conflict("x"), Unavailable("x")])
async def test_a_write_that_fails_is_looked_at_again_and_counts_as_none(error):
    worked = await writer(replica(device()), Twins(), Store(error)).look(KEY)
    assert worked.again and not worked.wrote


async def test_a_record_of_no_device_is_purged_up_to_what_was_read():
    twins = Twins()
    assert await writer(replica(), twins, Store()).look(KEY) == Worked()
    assert twins.purged == [(address(KEY), 7)]


async def test_who_leads_no_more_writes_and_purges_nothing():
    twins, store = Twins(), Store()
    await writer(replica(), twins, store, leads=False).look(KEY)
    await writer(replica(device()), twins, store, leads=False).look(KEY)
    assert not twins.purged and not store.writes


async def test_nothing_is_judged_before_everything_was_read():
    known, twins = replica(), Twins()
    known.statuses_synced = False
    assert await writer(known, twins, Store()).look(KEY) == Worked(again=True)
    assert not twins.purged


async def test_a_record_that_cannot_be_read_is_left_alone():
    twins = Twins(structs.replace(TWIN, session="no number"))
    assert await writer(replica(), twins, Store()).look(KEY) == Worked(again=True)
    assert not twins.purged


@pytest.mark.parametrize("missing", ["epoch", "cluster", "models"])
async def test_a_replica_that_has_not_seen_everything_asks_for_patience(missing):
    known = replica(device())
    if missing == "models":
        known.moved(MODEL, 0)
    else:
        setattr(known, missing, None)
    with pytest.raises(Retry):
        await Pages(known, Counts(Metrics())).answer(SetAsk(node="a", ask=PageAsk()), None)


async def test_an_unknown_node_should_have_nothing():
    answer = await Pages(replica(device()), Counts(Metrics())).answer(SetAsk(node="b", ask=PageAsk()), None)
    assert answer.hash == "0" * 16 and not answer.puts


def test_a_subject_of_twins_and_its_device_are_one():
    key = ("edge.1", "default", "lamp.2")
    assert key_of(address(key)) == key and key_of("else.where") is None


class Bus:
    def __init__(self):
        self.said = []

    async def say(self, subject, message, **tokens):
        subject.at(**tokens)
        self.said.append((tokens["node"], message))


async def test_a_burst_is_gathered_into_one_push_and_a_bad_node_name_stops_no_other():
    clock, bus, known = FrozenClock(), Bus(), replica()
    pusher = Pusher(bus, known, clock, 0.01, Counts(Metrics()))
    task = asyncio.create_task(pusher.run())
    await clock.advance(0)
    pusher.add(known.placement.put(device("x", "No_Such!")))
    for i in range(50):
        pusher.add(known.placement.put(device(f"d{i}")))
    await clock.advance(0.02)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    ((node, push),) = bus.said
    assert node == "a" and len(push.puts) == 50 and push.hash == known.placement.set_of("a").hash


class Kube:
    def __init__(self):
        self.patches, self.events = [], []

    async def patch(self, resource, namespace, name, body, subresource=""):
        self.patches.append(json.loads(body))

    async def create(self, resource, namespace, body):
        self.events.append(json.loads(body))


async def condition_of(known, name="d"):
    kube = Kube()
    look = ConditionWriter(known, kube, FrozenClock(), lambda: True, "me", Counts(Metrics()))
    await look.look(("default", name))
    return kube


async def test_a_device_that_is_too_big_is_refused_with_a_condition_and_an_event():
    kube = await condition_of(replica(device(size=300_000)))
    (condition,) = kube.patches[0]["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "TooBig")
    assert "300000 bytes" in condition["message"]
    assert kube.events[0]["involvedObject"]["name"] == "d" and kube.events[0]["reason"] == "TooBig"


async def test_a_condition_that_is_so_is_not_written_again():
    known = replica(device(node=""))
    (condition,) = (await condition_of(known)).patches[0]["status"]["conditions"]
    bears = Condition(
        type="Ready", status="False", reason="NoNode", message=condition["message"],
        last_transition_time=condition["lastTransitionTime"], observed_generation=1,
    )  # fmt: skip
    seen = known.placement.devices[("default", "d")]
    known.changed(seen, replace(seen, conditions=(bears,)))
    kube = await condition_of(known)
    assert not kube.patches and not kube.events


async def test_a_part_that_is_away_is_told_from_a_device_that_is_refused(caplog):
    """The first brings every device back soon after it answers again, and is said once for all of them."""
    caplog.set_level("INFO")
    known = replica(device(), device("e"))
    away = writer(known, Twins(), Store(Unavailable("no connection")))
    for name in ("d", "e"):
        assert await away.look(("a", "default", name)) == Worked(again=True, away=True)
    assert len([r for r in caplog.records if "trying on" in r.message]) == 1
    refused = writer(known, Twins(), Store(Invalid("spec: no")))
    assert await refused.look(KEY) == Worked(again=True)

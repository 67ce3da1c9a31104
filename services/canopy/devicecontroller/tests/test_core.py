"""What is done about one device, as a table; what is written, as bytes."""

from dataclasses import replace

import msgspec
import pytest

from canopy.contracts.devices import DEVICE, Condition
from canopy.contracts.wire import DeviceState, Problem, Side, TwinRecord, TwinState
from canopy.devicecontroller import core
from canopy.devicecontroller.core import LookAgain, Nothing, Purge, Record, Write, decide
from canopy.devicecontroller.objects import STAMP, Seen, Source, StatusSeen, read_status

KEY = ("a", "default", "d")
DEV = Seen(DEVICE, "default", "d", "u1", 10, 1, 2, None, "a", "m")
STATE = DeviceState(
    twins={
        "t": TwinState(reported=Side(value="1", timestamp=5, metadata={"unit": "C"}), type="int"),
        "on": TwinState(expected=Side(value="true", timestamp=7), type="boolean"),
    },
    state="online",
    last_online=1_700_000_000_123,
)
TWIN = TwinRecord(
    node="a", namespace="default", name="d", uid="u1", device_revision=9, session=3, n=4, revision=1, digest="x",
    received=0, state=STATE,
)  # fmt: skip
REC = Record(77, TWIN)
NEXT = replace(DEV, revision=12, generation=2)
SOURCE = Source("a", 3, 4, 10, 1)
STATUS = StatusSeen("default", "d", "u1", "500", core.state_of(TWIN), SOURCE)


def rec(**changes):
    return Record(77, msgspec.structs.replace(TWIN, **changes))


def source(**changes):
    return replace(STATUS, source=msgspec.structs.replace(SOURCE, **changes))


def edited(**changes):
    return replace(STATUS, state=msgspec.structs.replace(STATUS.state, **changes))


THEIRS = Condition(type="Theirs", status="True")
PROBLEM = Problem(code="ReadFailed", reason="illegal data address", property="t", since=1_700_000_000_000)
TROUBLED = rec(state=msgspec.structs.replace(STATE, problems=[PROBLEM]))

TABLE = [
    # what holds, device, seen, status, record, what is done
    ("nothing was ever reported", DEV, 10, STATUS, None, Nothing),
    ("all is as it should be", DEV, 10, STATUS, REC, Nothing),
    ("there is no DeviceStatus yet", DEV, 10, None, REC, Write),
    ("TWINS holds a newer state", DEV, 10, STATUS, rec(n=5), Write),
    ("the state is another one", DEV, 10, STATUS, rec(state=DeviceState(state="offline")), Write),
    ("somebody edited the state", DEV, 10, edited(state="lie"), REC, Write),
    ("somebody edited a twin", DEV, 10, edited(twins=()), REC, Write),
    ("somebody edited the last online time", DEV, 10, edited(last_online_time=""), REC, Write),
    ("somebody added an extension of theirs", DEV, 10, edited(extensions={"x": 1}), REC, Nothing),
    ("somebody took our condition away", DEV, 10, STATUS, TROUBLED, Write),
    ("somebody added a condition of theirs", DEV, 10, edited(conditions=(THEIRS,)), REC, Nothing),
    ("the DeviceStatus is nobody's", DEV, 10, replace(STATUS, owner=""), REC, Write),
    ("RULES 25: its owner is another uid", DEV, 10, replace(STATUS, owner="u0"), REC, LookAgain),
    ("RULES 25: it was derived from a later Device", DEV, 10, source(device_revision=11), REC, LookAgain),
    ("the Device's spec is a later one than it was derived from", NEXT, 12, STATUS, REC, Write),
    ("only the Device's status or labels changed since", replace(DEV, revision=12), 12, STATUS, REC, Nothing),
    ("it was derived from another node's record", DEV, 10, source(node="b"), REC, Write),
    ("RULES 26: the Device is gone", None, 10, None, REC, Purge),
    ("RULES 26: the Device moved", replace(DEV, node="b"), 10, STATUS, REC, Purge),
    ("RULES 26: the Device was re-created", replace(DEV, uid="u2"), 10, None, REC, Purge),
    ("RULES 26: the edge knows a later Device than we", None, 10, None, rec(device_revision=11), LookAgain),
    ("RULES 26: the same, moved", replace(DEV, node="b"), 10, STATUS, rec(device_revision=11), LookAgain),
]  # fmt: skip


@pytest.mark.parametrize(("what", "device", "seen", "status", "record", "done"), TABLE, ids=[row[0] for row in TABLE])
def test_what_is_done_about_a_device(what, device, seen, status, record, done):
    """Seen to fail: `status.owner` not compared; `source.device_revision` not compared, or compared with `!=`; the
    purge without `device_revision > seen`; placement compared by node alone or by uid alone; the source left out of
    what must be equal."""
    assert isinstance(decide(KEY, device, seen, status, record), done)


def test_a_purge_ends_at_the_sequence_that_was_read():
    assert decide(KEY, None, 10, None, REC) == Purge(77)


def test_a_write_says_what_was_read_and_bears_the_devices_revision():
    write = decide(KEY, DEV, 10, STATUS, rec(n=5))
    assert write.resource_version == "500" and not write.adopt
    assert write.source == Source("a", 3, 5, 10, 1)


def test_the_status_of_nobody_is_adopted():
    write = decide(KEY, DEV, 10, replace(STATUS, owner=""), REC)
    meta = msgspec.json.decode(core.adoption(write))["metadata"]
    assert write.adopt and meta["ownerReferences"][0]["uid"] == "u1" and meta["resourceVersion"] == "500"


def test_the_patch_is_kubeedges_shape_with_our_stamp_in_the_extensions():
    patch = msgspec.json.decode(core.status_patch(decide(KEY, DEV, 10, None, REC), "501"))
    assert patch["metadata"] == {"resourceVersion": "501"}
    assert patch["status"] == {
        "twins": [
            {"propertyName": "on", "observedDesired": {"value": "true", "metadata": {"timestamp": "7"}}},
            {
                "propertyName": "t",
                "reported": {"value": "1", "metadata": {"timestamp": "5", "type": "int", "unit": "C"}},
            },
        ],
        "state": "online",
        "lastOnlineTime": "2023-11-14T22:13:20Z",
        "extensions": {STAMP: {"node": "a", "session": 3, "n": 4, "deviceRevision": 10, "generation": 1}},
    }


@pytest.mark.parametrize("record", [REC, TROUBLED])
def test_what_was_written_reads_back_as_nothing_to_do(record):
    write = decide(KEY, DEV, 10, None, record)
    obj = msgspec.json.decode(core.new_status(write))
    obj["status"] = msgspec.json.decode(core.status_patch(write, "501"))["status"]
    obj["metadata"]["resourceVersion"] = "502"
    read = read_status(msgspec.json.encode(obj))
    assert read.owner == "u1"
    assert decide(KEY, DEV, 10, read, record) == Nothing()

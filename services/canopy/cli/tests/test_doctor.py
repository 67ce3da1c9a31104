"""`canopy doctor`: facts of a node -> findings, a row each; a folder as it is read; the screen and exit codes."""

import asyncio
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from canopy.bus.config import Leaf
from canopy.bus.trust import LeafTrust
from canopy.cli import doctor, doctor_files
from canopy.cli.doctor_core import LITTLE_BYTES, node_findings
from canopy.cli.doctor_facts import Dialled, Disk, Lasting, Loose, NodeFacts
from canopy.cli.doctor_fleet import fleet_findings
from canopy.cli.tests.test_why import LETTERS, status
from canopy.edgeidentity.folders import Folders
from canopy.edgeidentity.settings import Settings
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity, write_identity
from canopy.identity.svid import Svid, make_csr, new_key

NOW, HOUR = 1_800_000_000.0, 3600.0
TD, NODE = "canopy.test", "edge-1"
LINK = Lasting("link", f"spiffe://{TD}/node/{NODE}", NOW - 600, NOW + 3000)
ROOT = Lasting("root-1.pem", "root 1", NOW - HOUR, NOW + 1000 * HOUR)
UNIT = Lasting("edge", f"spiffe://{NODE}.{TD}/edge", NOW - 600, NOW + 3000)
GOOD = NodeFacts(
    folder="/n", node=NODE, not_joined="", given=False, configured=True, link=LINK, roots=(ROOT,), units=(UNIT,),
    loose=(), keys=5, join=(Dialled("https://j:8443", ahead_seconds=1.2),), hub=(Dialled("h:7422"),),
    leaf=Dialled("127.0.0.1:4222"), linked=True, gateway=Dialled("127.0.0.1:8883"), admin=Dialled("/n/admin.sock"),
    disks=(Disk("/n", 10**10, 10**6),),
)  # fmt: skip
AWAY, STRANGER = Dialled("h:7422", "refused"), Dialled("h:7422", "its certificate is not believed", stranger=True)
ROWS: list[tuple[str, dict[str, Any], str, str, str, str]] = [
    # what is said of it, the facts that differ, the check, its verdict, of its text, of what to try
    ("a machine that is no node", {"not_joined": "no node", "given": False, "configured": False,
     "link": Lasting("link", doubt="no file"), "units": (), "roots": ()}, "joined", "wrong", "no node",
     "node token NODE"),
    ("a node whose link others write", {"not_joined": "no node", "given": True, "join": ()}, "joined", "ok",
     "files", ""),
    ("a link that is young", {}, "link", "ok", "(50 min left)", ""),
    ("a link past half of its life", {"link": replace(LINK, begins=NOW - 5000)}, "link", "ok", "due since 16 min", ""),
    ("a link in its last quarter", {"link": replace(LINK, begins=NOW - 9001)}, "link", "wrong", "half of its life",
     "log"),
    ("a link that is over", {"link": replace(LINK, ends=NOW - 7200, doubt="expired")}, "link", "wrong",
     "over since 2 h", "after the grace: canopy node token edge-1"),
    ("a link that no kept root believes", {"link": replace(LINK, doubt="is foreign")}, "link", "wrong", "foreign",
     "log"),
    ("a link that is not there", {"link": Lasting("link", doubt="svid.pem: no")}, "link", "wrong", "svid.pem",
     "--start"),
    ("an authority of two roots", {"roots": (replace(ROOT, ends=NOW + 1), ROOT)}, "authority", "ok", "2 roots", ""),
    ("an authority without a root", {"roots": ()}, "authority", "wrong", "no root", "--start"),
    ("an authority whose root cannot be read", {"roots": (ROOT, Lasting("root-2.pem", doubt="no PEM"))}, "authority",
     "wrong", "root-2.pem: no PEM", "log"),
    ("an authority that made no next root", {"roots": (replace(ROOT, begins=NOW - 9000 * HOUR),)}, "authority",
     "wrong", "half of its life", "does it run"),
    ("a unit whose certificate is over", {"units": (UNIT, replace(UNIT, name="leaf", ends=NOW - 1))}, "units", "wrong",
     "leaf: ", "without the cloud"),
    ("keys for their owner alone", {}, "key files", "ok", "5 files", ""),
    ("a key that others may read", {"loose": (Loose("/n/node.key", 0o644),)}, "key files", "wrong", "is 0644",
     "chmod 600 /n/node.key"),
    ("a key of another user", {"loose": (Loose("/n/node.key", 0o600, "root"),)}, "key files", "wrong", "of root",
     "chown"),
    ("a clock that is right", {}, "clock", "ok", "within 10 s", ""),
    ("a clock that is ahead", {"join": (Dialled("j", ahead_seconds=300.0),)}, "clock", "wrong", "5 min ahead", "NTP"),
    ("a clock that is behind", {"join": (Dialled("j", ahead_seconds=-11.0),)}, "clock", "wrong", "11 s behind", "NTP"),
    ("a clock of which nobody tells", {"join": (AWAY,)}, "clock", "unknown", "nobody tells", ""),
    ("a clock before its own certificate", {"join": (AWAY,), "link": replace(LINK, begins=NOW + 60)}, "clock", "wrong",
     "it is behind", "NTP"),
    ("a join endpoint of two, one away", {"join": (AWAY, GOOD.join[0])}, "join endpoint", "ok", "h:7422: refused", ""),
    ("a join endpoint that is away", {"join": (AWAY,)}, "join endpoint", "wrong", "refused", "firewall"),
    ("a join endpoint under another root", {"join": (STRANGER, GOOD.join[0])}, "join endpoint", "wrong", "not believed",
     "somebody else answers"),
    ("a hub that is away", {"hub": (AWAY,)}, "hub", "wrong", "refused", "is the hub up"),
    ("a hub that is another's", {"hub": (STRANGER,)}, "hub", "wrong", "not believed", "HUB_URL"),
    ("a leaf that the hub does not let in", {"linked": False}, "linked", "wrong", "not let in", "node restore edge-1"),
    ("a leaf whose hub is away", {"linked": False, "hub": (AWAY,)}, "linked", "wrong", "alone", "hub above"),
    ("a leaf that does not say", {"linked": None}, "linked", "unknown", "does not say", ""),
    ("a leaf that is down", {"leaf": AWAY, "linked": None}, "leaf", "wrong", "refused", "nats-server"),
    ("a node that was never started", {"configured": False}, "leaf", "wrong", "nats.conf", "--start"),
    ("a gateway that shows another's certificate", {"gateway": STRANGER}, "gateway", "wrong", "not believed", "log"),
    ("an edgeidentity that is down", {"admin": AWAY}, "admin socket", "wrong", "refused", "edgeidentity"),
    ("a disk that is full", {"disks": (GOOD.disks[0], Disk("/v", LITTLE_BYTES - 1, None))}, "disk", "wrong",
     "/v: 268 MB", "df -h /v"),
    ("a disk without room for files", {"disks": (Disk("/n", 10**10, 3),)}, "disk", "wrong", "3 files", "df -i"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "check", "verdict", "text", "tries"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS]
)
def test_what_is_seen_of_a_node_leads_to(
    changes: dict[str, Any], check: str, verdict: str, text: str, tries: str
) -> None:
    found = [one for one in node_findings(replace(GOOD, **changes), NOW) if one.check == check]
    assert [one.verdict for one in found] == [verdict]
    assert text in found[0].text and tries in "\n".join(found[0].tries)
    assert bool(found[0].tries) == (verdict == "wrong")


def test_a_good_node_is_well_in_everything_and_each_check_is_said_once() -> None:
    found = node_findings(GOOD, NOW)
    assert {one.verdict for one in found} == {"ok"}
    assert len({one.check for one in found}) == len(found) == 13


def test_the_fleet_is_judged_as_canopy_status_does() -> None:
    late = {"node": "edge-2", "units": "link", "until": (NOW + 60) * 1000, "late": True}
    away = {"name": "edge-2", "state": "away", "since": 0, "why": "not heard"}
    good = status(dead_letters=0, identities=[late | {"late": False}], identities_count=4, identities_late=0)
    assert [one.verdict for one in fleet_findings(good, NOW)] == ["ok", "ok"]
    ill = status(dead_letters=2, troubled_nodes=[away], identities=[late], identities_count=4, identities_late=1)
    fleet, identities = fleet_findings(ill, NOW)
    assert fleet.verdict == "wrong" and fleet.text == "node edge-2 is away (not heard); 2 dead letters"
    assert identities.verdict == "wrong" and "1 not renewed in time: link of edge-2: until " in identities.text


# --- a folder -----------------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A node whose link others write: certificates and the leaf's configuration, and nobody listens."""
    asyncio.run(_written(tmp_path / "node" / "identity"))
    (tmp_path / "node" / "js").mkdir()
    return tmp_path / "node"


async def _written(identity: Path) -> None:
    fleet, own = Builtin(identity.parent.parent / "fleet", TD), Builtin(identity / "authority", f"{NODE}.{TD}")
    local = {"leaf": identity / "leaf"} | {name: identity / "units" / name for name in ("edge", "edgehub")}
    places = [(fleet, ids.node(TD, NODE), identity / "link")]
    for authority, id, place in [*places, *((own, ids.local(TD, NODE, name), at) for name, at in local.items())]:
        key = new_key()
        minted = await authority.mint(make_csr(key, id), id, ttl_seconds=HOUR)
        write_identity(place, Identity(Svid.of(minted.chain_pem, key), await authority.bundle()))
    (identity / "nats.conf").write_text(_leaf(identity, "tls://127.0.0.1:9,tls://localhost:9").text())


def _leaf(identity: Path, hub: str) -> Leaf:
    files = [str(identity / place / name) for place in ("leaf", "link") for name in ("svid.pem", "bundle.pem")]
    store = str(identity.parent / "js")
    return Leaf(store, hub, LeafTrust(NODE, TD, *files), "127.0.0.1:9", "0.0.0.0:9")


def test_the_leafs_own_configuration_says_where_everything_is(folder: Path) -> None:
    identity = folder / "identity"
    found = doctor_files.config_of((identity / "nats.conf").read_text())
    assert (found.leaf, found.gateway, found.hubs) == ("127.0.0.1:9", "0.0.0.0:9", ("127.0.0.1:9", "localhost:9"))
    assert (found.link, found.store) == (identity / "link", folder / "js")
    assert doctor_files.config_of(_leaf(identity, "tls://h:7422").text()).hubs == ("h:7422",)


def test_a_node_is_looked_at_where_edgeidentity_keeps_it(tmp_path: Path) -> None:
    theirs = Folders.of(Settings(), tmp_path)
    ours = doctor_files.Folders(theirs.root, theirs.link, theirs.store)
    found = doctor_files.read(tmp_path, tmp_path / "identity").folders
    assert (found.root, found.link, found.store) == (theirs.root, theirs.link, theirs.store)
    assert theirs.config == theirs.root / "nats.conf"
    assert (ours.authority, ours.leaf, ours.join) == (theirs.authority, theirs.leaf, theirs.join)
    assert ours.unit("edge") == theirs.unit("edge")


def test_what_stands_in_a_folder_is_read_as_it_is(folder: Path) -> None:
    now, key = time.time(), folder / "identity" / "units" / "edge" / "svid.pem"
    key.chmod(0o640)
    write_identity(folder / "identity" / "units" / "edgehub", _identity(folder / "identity" / "link"))
    (folder / "identity" / "link" / "bundle.pem").write_bytes((folder / "identity/leaf/bundle.pem").read_bytes())
    found = doctor_files.read(folder, folder / "identity")
    assert "is foreign" in doctor_files.link(found, now).doubt
    assert [one.doubt for one in doctor_files.units(found, now)] == [""] * 3  # each by the roots beside it
    assert doctor_files.keys(found) == (5, (Loose(str(key), 0o640),))
    assert [one.id[:5] for one in doctor_files.roots(found)] == ["root "]
    assert doctor_files.disks(found)[0].free_bytes > 0


def _identity(folder: Path) -> Identity:
    return Identity(Svid.read((folder / "svid.pem").read_bytes()), doctor_files.read_identity(folder).bundle)


# --- the command --------------------------------------------------------------------------------------------------
@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "USUAL", ())
    for name in [name for name in os.environ if name.startswith("CANOPY_")]:
        monkeypatch.delenv(name)


def test_a_node_on_which_nothing_runs_is_told_in_one_screen(canopy: Any, folder: Path, nowhere: None) -> None:
    ended = canopy("doctor", "--dir", str(folder))
    lines = ended.out.splitlines()
    assert ended.code == 1 and not ended.err
    assert lines[0] == f"edge-1 in {folder}: wrong: hub, leaf, gateway, admin socket"
    assert ["ok", "link", "spiffe://canopy.test/node/edge-1:", "until"] in [text.split()[:4] for text in lines]
    assert "leaf: 127.0.0.1:9: " in ended.out and "PRIVATE" not in ended.out
    found = json.loads(canopy("doctor", "--dir", str(folder), "--output", "json").out)
    assert not found["well"] and {one["check"] for one in found["findings"] if one["verdict"] == "ok"} == {
        "joined", "link", "authority", "units", "key files", "disk"
    }  # fmt: skip


def test_a_workstation_is_told_of_the_fleet_alone(canopy: Any, fleet: Any, nowhere: None) -> None:
    fleet.answers[("GET", "/api/v1/status")] = (200, status())
    fleet.answers[("GET", LETTERS)] = (200, {"deadletters": []})
    ended = canopy("doctor", *fleet.options())
    assert (ended.code, ended.out.splitlines()[0]) == (0, f"the fleet at {fleet.url}: all is well")
    fleet.answers[("GET", "/api/v1/status")] = (200, status(well=False, troubled_devices_count=1))
    assert canopy("doctor", *fleet.options()).code == 1
    assert canopy("doctor", "--api-url", "http://127.0.0.1:9").code == 1


def test_where_there_is_nothing_to_look_at_it_says_how_to_say_what(canopy: Any, nowhere: None) -> None:
    ended = canopy("doctor")
    assert ended.code == 1 and "no node in .canopy (say --dir)" in ended.err and "CANOPY_API_URL" in ended.err

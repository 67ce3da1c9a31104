import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.identity import ids
from canopy.identity.ids import BadId, FleetMember, SpiffeId

TD = "canopy.test"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "http://canopy.test/hub",
        "SPIFFE://canopy.test/hub",
        "spiffe://Canopy.test/hub",
        "spiffe://canopy.test:8080/hub",
        "spiffe://me@canopy.test/hub",
        "spiffe://canopy.test/hub/",
        "spiffe://canopy.test/",
        "spiffe://canopy.test//hub",
        "spiffe://canopy.test/node/../hub",
        "spiffe://canopy.test/./hub",
        "spiffe://canopy.test/h%75b",
        "spiffe://canopy.test/hub?x=1",
        "spiffe://canopy.test/hub#x",
        "spiffe://canopy.test/hub\n",
        "spiffe://" + "a" * 256,
        "spiffe://canopy.test/" + "a" * 2048,
    ],
)
def test_what_is_not_exactly_a_spiffe_id_is_refused(text):
    with pytest.raises(BadId):
        ids.parse(text)


def test_an_id_reads_as_it_was_written():
    for id in (
        ids.cloud(TD, "cloudhub"),
        ids.cloud(TD, "cloud"),
        ids.hub(TD),
        ids.node(TD, "edge-1"),
        ids.local(TD, "edge-1", "devicetwin"),
        ids.device(TD, "edge-1", "default", "light"),
        ids.app(TD, "edge-1", "reader"),
        SpiffeId(TD, ""),
    ):
        assert ids.parse(str(id)) == id


def test_a_nodes_own_domain_is_below_the_fleets():
    assert str(ids.device(TD, "edge-1", "default", "light")) == "spiffe://edge-1.canopy.test/device/default/light"
    assert str(ids.local(TD, "edge-1", "leaf")) == "spiffe://edge-1.canopy.test/leaf"


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("spiffe://canopy.test/hub", FleetMember("hub", "hub")),
        ("spiffe://canopy.test/node/edge-1", FleetMember("node", "edge-1")),
        ("spiffe://canopy.test/node/a.b", FleetMember("node", "a.b")),
        ("spiffe://canopy.test/cloud/cloudhub", FleetMember("cloud", "cloudhub")),
        ("spiffe://canopy.test/cloud/cloud", FleetMember("cloud", "cloud")),
        ("spiffe://canopy.test/cloud/nobody", None),
        ("spiffe://canopy.test/node/Edge-1", None),
        ("spiffe://canopy.test/node/edge_1", None),
        ("spiffe://canopy.test/node/edge-1/x", None),
        ("spiffe://canopy.test/hub/x", None),
        ("spiffe://canopy.test", None),
        ("spiffe://other.test/node/edge-1", None),
        ("spiffe://edge-1.canopy.test/node/edge-1", None),
        ("spiffe://edge-1.canopy.test/hub", None),
        ("spiffe://edge-1.canopy.test/cloud/cloudhub", None),
    ],
)
def test_only_the_fleets_own_domain_names_its_members(text, who):
    assert ids.member(TD, ids.parse(text)) == who


@pytest.mark.parametrize("name", ["", "a/b", "..", "A", "a" * 300, "a b", "*", ">"])
def test_no_name_escapes_its_place(name):
    for make in (
        lambda: ids.node(TD, name),
        lambda: ids.local(TD, name, "edge"),
        lambda: ids.device(TD, "n", name, "light"),
        lambda: ids.device(TD, "n", "default", name),
        lambda: ids.app(TD, "n", name),
        lambda: ids.cloud(TD, name),
    ):
        with pytest.raises(BadId):
            make()


@given(st.text(max_size=60))
def test_any_text_is_an_id_that_writes_itself_or_is_refused(text):
    for candidate in (text, "spiffe://" + text, "spiffe://canopy.test/" + text):
        try:
            assert str(ids.parse(candidate)) == candidate
        except BadId:
            pass

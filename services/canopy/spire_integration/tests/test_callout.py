"""A request as a hub signs it -> the answer that the hub believes, its record in the audit, and its counts."""

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canopy.bus.admission import rights
from canopy.identity import ids, natsjwt
from canopy.identity.builtin import Builtin
from canopy.identity.ids import FleetMember
from canopy.identity.svid import make_csr, new_key
from canopy.runtime.audit import AuditLog
from canopy.runtime.metrics import Metrics
from canopy.spire_integration.callout import Admission
from canopy.spire_integration.counts import Counts
from canopy.testing.clock import FrozenClock

TD = "fleet.test"
HUB, USER, ISSUER = natsjwt.new_server(), natsjwt.new_user(), natsjwt.new_account()


class World:
    def __init__(self, folder):
        self.clock, self.metrics = FrozenClock(), Metrics()
        self.audit, self.revoked = AuditLog("spire_integration", self.clock), set()
        self.authority = Builtin(folder, TD, clock=self.clock)
        counts = Counts.of(self.metrics)
        self.admission = Admission(ISSUER.seed, TD, lambda: self.revoked, self.audit, counts, self.clock)

    async def chain(self, id):
        key = new_key()
        return (await self.authority.mint(make_csr(key, id), id, ttl_seconds=600)).chain_pem.decode()

    def answer(self, chain=None, kind="Leafnode", **nats):
        return self.admission.answer(natsjwt.signed(HUB.seed, asked(chain, kind, **nats)).encode())


def asked(chain, kind="Leafnode", **nats):
    body = {
        "type": "authorization_request",
        "server_id": {"id": HUB.public, "name": "hub-1"},
        "user_nkey": USER.public,
        "client_info": {"id": 7, "kind": kind, "type": "nats" if kind == "Client" else "", "host": "10.0.0.9"},
        "client_tls": {"verified_chains": [[chain]]} if chain else {},
        "version": 2,
        **nats,
    }
    return {"aud": "nats-authorization-request", "iat": 100, "sub": ISSUER.public, "nats": body}


def claims(jwt):
    text = jwt if isinstance(jwt, str) else jwt.decode()
    part = text.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


async def test_a_node_gets_its_account_its_rights_and_its_certificates_end(world):
    answer = claims(world.answer(await world.chain(ids.node(TD, "edge-1"))))
    assert (answer["iss"], answer["sub"], answer["aud"]) == (ISSUER.public, USER.public, HUB.public)
    user, place = claims(answer["nats"]["jwt"]), rights(FleetMember("node", "edge-1"))
    assert user["aud"] == place.account and user["name"] == f"spiffe://{TD}/node/edge-1"
    assert user["nats"]["pub"] == {"allow": ["node.edge-1.ask.>"]}
    assert user["nats"]["sub"] == {"allow": ["node.edge-1.in.>"]}
    assert user["exp"] == world.clock.now_ms() // 1000 + 600
    (record,) = world.audit.waiting(9)
    assert (record.what, record.outcome, record.who) == ("admission", "ok", user["name"])
    assert record.where == "10.0.0.9" and record.serial and record.not_after == user["exp"] * 1000
    assert 'canopy_spire_integration_admissions_total{kind="node"} 1' in world.metrics.text()


async def test_the_hub_has_no_name_for_a_client_which_it_would_throw_out_for_it_at_its_next_reload(world):
    answer = claims(world.answer(await world.chain(ids.cloud(TD, "cloudhub")), kind="Client"))
    assert claims(answer["nats"]["jwt"])["name"] == ""


async def test_what_comes_from_an_authority_below_the_fleets_is_refused(world):
    leaf, authority = await world.chain(ids.node(TD, "edge-1")), await world.chain(ids.node(TD, "above"))
    assert "jwt" in claims(world.answer(leaf + authority))["nats"]
    assert "below the fleet's" in claims(world.answer(leaf + authority * 2))["nats"]["error"]


async def test_a_refusal_says_why_to_the_hubs_log_and_to_the_audit(world):
    world.revoked.add("edge-1")
    answer = claims(world.answer(await world.chain(ids.node(TD, "edge-1"))))
    assert "is revoked" in answer["nats"]["error"] and "jwt" not in answer["nats"]
    assert "no client certificate" in claims(world.answer())["nats"]["error"]
    assert "as Client" in claims(world.answer(await world.chain(ids.node(TD, "a")), kind="Client"))["nats"]["error"]
    whys = [(r.outcome, r.reason.split(":")[0]) for r in world.audit.waiting(9)]
    assert whys[:2] == [("refused", "the node edge-1 is revoked"), ("refused", "no client certificate")]
    assert 'canopy_spire_integration_refusals_total{why="revoked"} 1' in world.metrics.text()


def test_what_no_server_signed_is_not_answered(world):
    other = natsjwt.new_server()
    assert world.admission.answer(natsjwt.signed(other.seed, asked(None)).encode()) is None
    assert world.admission.answer(b"") is None
    assert {r.outcome for r in world.audit.waiting(9)} == {"refused"}


def admits(answer):
    return answer is not None and "jwt" in claims(answer)["nats"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
fuzzing = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzzing
@given(data=st.binary(max_size=400))
def test_no_bytes_crash_the_callout_or_let_anybody_in(world, data):
    assert not admits(world.admission.answer(data))


@fuzzing
@given(
    part=st.sampled_from(["type", "server_id", "user_nkey", "client_info", "client_tls", "version"]), value=json_values
)
def test_no_part_of_a_request_that_a_hub_signed_lets_in_who_has_no_certificate(world, part, value):
    assert not admits(world.answer(**{part: value}))


@fuzzing
@given(value=json_values)
def test_no_claims_that_a_hub_signed_let_anybody_in(world, value):
    body = value if isinstance(value, dict) else {"nats": value}
    assert not admits(world.admission.answer(natsjwt.signed(HUB.seed, body).encode()))


@fuzzing
@given(at=st.integers(0, 5000), byte=st.integers(0, 255))
async def test_a_changed_byte_of_a_request_is_refused(world, at, byte):
    if not hasattr(world, "signed"):
        world.signed = natsjwt.signed(HUB.seed, asked(await world.chain(ids.node(TD, "edge-1")))).encode()
        assert admits(world.admission.answer(world.signed))
    whole = world.signed.rstrip(b"=")
    at %= len(whole) - 1
    changed = bytes([*whole[:at], byte, *whole[at + 1 :]])
    assert changed == whole or not admits(world.admission.answer(changed))

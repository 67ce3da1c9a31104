import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canopy.identity import natsjwt
from canopy.identity.natsjwt import ACCOUNT, BadNkey, BadRequest

HUB, USER, ISSUER = natsjwt.new_server(), natsjwt.new_user(), natsjwt.new_account()


def asked(**nats) -> dict:
    body = {
        "type": "authorization_request",
        "server_id": {"id": HUB.public, "name": "hub-1"},
        "user_nkey": USER.public,
        "client_info": {"id": 7, "kind": "Leafnode", "type": "nats", "host": "10.0.0.9", "name": "edge-1"},
        "client_tls": {"verified_chains": [["-----BEGIN CERTIFICATE-----\nleaf", "root\n"]]},
        "version": 2,
        **nats,
    }
    return {"aud": "nats-authorization-request", "iat": 100, "sub": ISSUER.public, "nats": body}


def test_a_request_reads_as_the_server_wrote_it():
    request = natsjwt.read_request(natsjwt.signed(HUB.seed, asked()).encode())
    assert (request.server_id, request.user_nkey, request.kind, request.client_id) == (
        HUB.public,
        USER.public,
        "Leafnode",
        7,
    )
    assert (request.host, request.name) == ("10.0.0.9", "edge-1")
    assert request.chain_pem == b"-----BEGIN CERTIFICATE-----\nleaf\nroot\n"


def test_without_a_client_certificate_the_chain_is_empty():
    request = natsjwt.read_request(natsjwt.signed(HUB.seed, asked(client_tls=None)).encode())
    assert request.chain_pem == b""


def test_a_request_that_another_signed_is_refused():
    other = natsjwt.new_server()
    with pytest.raises(BadRequest, match="not signed by the server that it names"):
        natsjwt.read_request(natsjwt.signed(other.seed, asked()).encode())
    with pytest.raises(BadRequest, match="another kind"):
        natsjwt.read_request(natsjwt.signed(natsjwt.new_user().seed, asked()).encode())
    head, body, signature = natsjwt.signed(HUB.seed, asked()).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["nats"]["client_info"]["id"] = 8
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    with pytest.raises(BadRequest, match="signature"):
        natsjwt.read_request(f"{head}.{changed}.{signature}".encode())


@pytest.mark.parametrize(
    "nats",
    [
        {"type": "other"},
        {"server_id": None},
        {"server_id": {"id": 1}},
        {"user_nkey": ISSUER.public},
        {"user_nkey": "U" * 56},
        {"user_nkey": ["x"]},
        {"client_info": []},
        {"client_info": {"host": {"a": 1}}},
        {"client_info": {"id": "7"}},
        {"client_info": {"name": "x" * 5000}},
        {"client_tls": {"verified_chains": [[1]]}},
        {"client_tls": {"verified_chains": ["x"]}},
        {"client_tls": {"verified_chains": [["x" * 70_000]]}},
    ],
)
def test_a_request_of_another_shape_is_refused(nats):
    with pytest.raises(BadRequest):
        natsjwt.read_request(natsjwt.signed(HUB.seed, asked(**nats)).encode())


GOOD = natsjwt.signed(HUB.seed, asked()).encode()


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_no_bytes_crash_the_reading_of_a_request_and_none_changes_it(junk, at, value):
    changed = GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
    for data in (junk, changed, GOOD[:at], b"." * at, b"A" * 300_000):
        try:
            read = natsjwt.read_request(data)
        except BadRequest:
            continue
        assert read == natsjwt.read_request(GOOD)


def test_a_user_may_do_what_is_listed_and_ends_in_time():
    token = natsjwt.user_jwt(
        ISSUER.seed, USER.public, "NODES-1", name="n", publish=["b", "a"], subscribe=[], expires_at=200, now=100
    )
    claims = natsjwt.verified(token.encode(), ACCOUNT)
    assert (claims["sub"], claims["aud"], claims["exp"], claims["iss"]) == (USER.public, "NODES-1", 200, ISSUER.public)
    assert claims["nats"]["pub"] == {"allow": ["a", "b"]}
    assert claims["nats"]["sub"] == {"deny": [">"]}, "an empty list would allow all"


def test_an_answer_holds_a_user_or_a_reason():
    good = natsjwt.callout_answer(ISSUER.seed, HUB.public, USER.public, jwt="a.b.c")
    assert natsjwt.verified(good.encode(), ACCOUNT)["nats"]["jwt"] == "a.b.c"
    bad = natsjwt.callout_answer(ISSUER.seed, HUB.public, USER.public)
    assert natsjwt.verified(bad.encode(), ACCOUNT)["nats"]["error"] == "refused"


def test_a_seed_is_read_again_and_shown_to_nobody():
    assert natsjwt.nkey(USER.seed + "\n") == USER
    assert USER.seed not in repr(USER)
    for text in ("", "x", USER.public, "SU" * 29):
        with pytest.raises(BadNkey):
            natsjwt.nkey(text)

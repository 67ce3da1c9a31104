"""Makers' certificates: which are true, and what they name."""

import datetime
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from canopy.identity import keys
from canopy.identity.manufacturer import NotTrue, verify
from canopy.testing.manufacturing import START, Maker, named, pem, serial

NOW = time.time()


KEY = ec.generate_private_key(ec.SECP256R1())
ACME = Maker()
SERIAL = serial("AB-12")


def test_a_serial_number_without_any_name_or_end_is_enough() -> None:
    machine = verify(
        pem(ACME.signed(SERIAL, KEY.public_key())), pem(Maker("else").certificate(), ACME.certificate()), NOW
    )
    assert machine.facts == {"serial": "AB-12"}
    assert machine.public_key_pem == keys.public_pem(KEY.public_key()) and len(machine.fingerprint) == 64


def test_an_intermediate_comes_with_the_machine_and_names_are_read() -> None:
    factory = Maker("factory", parent=ACME)
    leaf = factory.signed(named((NameOID.COMMON_NAME, "edge-1")), KEY.public_key(), dns="edge.1")
    machine = verify(pem(leaf, factory.certificate()), pem(ACME.certificate()), NOW)
    assert machine.facts == {"cn": "edge-1", "dns": "edge.1"}
    with pytest.raises(NotTrue):
        verify(pem(leaf), pem(ACME.certificate()), NOW)


def test_two_names_are_no_name() -> None:
    subject = named((NameOID.COMMON_NAME, "edge-1"), (NameOID.COMMON_NAME, "edge-2"))
    assert verify(pem(ACME.signed(subject, KEY.public_key())), pem(ACME.certificate()), NOW).facts == {}


def _foreign() -> bytes:
    return pem(Maker().signed(SERIAL, KEY.public_key()))  # the same name, another key


def _own() -> bytes:
    return pem(Maker("me", KEY).signed(SERIAL, KEY.public_key()))


def _over() -> bytes:
    return pem(ACME.signed(SERIAL, KEY.public_key(), START + datetime.timedelta(days=1)))


def _a_machine_as_maker() -> bytes:
    machine = Maker("machine", KEY)
    middle = ACME.signed(machine.subject, KEY.public_key())
    return pem(machine.signed(SERIAL, ec.generate_private_key(ec.SECP256R1()).public_key()), middle)


def _small_key() -> bytes:
    return pem(ACME.signed(SERIAL, rsa.generate_private_key(65537, 1024).public_key()))


@pytest.mark.parametrize(
    "chain",
    [
        _foreign,
        _own,
        _over,
        _a_machine_as_maker,
        _small_key,
        lambda: pem(ACME.certificate()),
        lambda: pem(*[ACME.signed(SERIAL, KEY.public_key())] * 5),
        lambda: b"",
        lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_no_maker_signed_is_refused(chain: Any) -> None:
    with pytest.raises(NotTrue):
        verify(chain(), pem(ACME.certificate()), NOW)

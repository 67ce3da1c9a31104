"""CONNECT packets: what is read is what is written, and nothing else passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.edgeidentity import front_connect as m

PLAIN = m.Connect(0x02, 60, "lamp")
FULL = m.Connect(0x02 | m.USER | m.PASSWORD | m.WILL, 30, "lamp", "default/lamp", b"secret", (b"t/x", b"gone"))
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@pytest.mark.parametrize("connect", [PLAIN, FULL])
def test_a_packet_is_read_as_it_was_written(connect: m.Connect) -> None:
    packet = connect.encoded()
    assert m.size(packet[:5]) == len(packet)
    assert m.read(packet) == connect


def test_the_gateway_sees_no_password_and_a_client_id_of_the_device() -> None:
    handed = m.read(FULL.without_credentials("default/lamp:").encoded())
    assert (handed.user, handed.password, handed.client) == ("", b"", "default/lamp:lamp")
    assert (handed.will, handed.keep_alive_seconds) == (FULL.will, 30)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"GET / HTTP/1.1", m.NONE),
        (b"\x10\xff\xff\xff\xff\x01", m.NONE),
        (b"\x10\xff\xff\x7f", m.NONE),
        (b"\x10\x02\x00\x04", m.NONE),
        (PLAIN.encoded().replace(b"\x04MQTT\x04", b"\x04MQTT\x05"), m.REFUSED_PROTOCOL),
        (m.Connect(0x00, 60, "").encoded(), m.REFUSED_CLIENT),
        (m.Connect(0x03, 60, "x").encoded(), m.NONE),
        (m.Connect(0x02 | m.PASSWORD, 60, "x", password=b"p").encoded(), m.NONE),
        (m.Connect(0x02, 60, "a\0b").encoded(), m.NONE),
        (PLAIN.encoded()[:-1], m.NONE),
    ],
)
def test_what_is_no_connect_of_mqtt_311_is_refused(packet: bytes, code: int) -> None:
    with pytest.raises(m.BadConnect) as e:
        m.read(packet)
    assert e.value.code == code


def test_a_connect_is_known_as_too_long_before_it_has_come() -> None:
    with pytest.raises(m.BadConnect, match="at most 16384"):
        m.size(b"\x10\x80\x80\x01")
    assert m.size(b"\x10") is None
    assert m.size(b"\x10\x80") is None


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for packet in (data, b"\x10" + bytes((min(127, len(data)),)) + data[:127]):
        try:
            found = m.read(packet)
        except m.BadConnect:
            continue
        assert m.read(found.encoded()) == found


@given(NAMES, NAMES, st.binary(max_size=60))
def test_every_user_and_password_comes_through(client: str, user: str, password: bytes) -> None:
    connect = m.Connect(0x02 | m.USER | m.PASSWORD, 5, client, user, password)
    assert m.read(connect.encoded()) == connect

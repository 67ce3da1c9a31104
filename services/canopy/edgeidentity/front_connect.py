"""The first packet of an MQTT 3.1.1 client, CONNECT: read, judged, and written anew for the gateway. Pure.

`front` reads bytes until `size` says that the packet is whole. Anything that is not exactly a CONNECT of 3.1.1 is a
BadConnect with the answer that MQTT has for it.
"""

import struct
from dataclasses import dataclass, replace

CONNECT = 0x10
MAX_CONNECT_BYTES = 16 * 1024
"""Longer ones are refused: a name, a password, a will."""
HEAD_BYTES = 5
PROTOCOL, LEVEL = b"MQTT", 4
USER, PASSWORD, WILL = 0x80, 0x40, 0x04
RESERVED, WILL_QOS, WILL_RETAIN = 0x01, 0x18, 0x20
REFUSED_PROTOCOL, REFUSED_CLIENT, UNAVAILABLE, REFUSED_USER = 1, 2, 3, 4
NONE = 0


class BadConnect(ValueError):
    """`code` is CONNACK's; NONE: what came is no MQTT at all, and gets no answer."""

    def __init__(self, text: str, code: int = NONE) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Connect:
    """What a client says first. `will` is (topic, message) as bytes."""

    flags: int
    keep_alive_seconds: int
    client: str
    user: str = ""
    password: bytes = b""
    will: tuple[bytes, bytes] | None = None

    def encoded(self) -> bytes:
        """As a packet."""
        parts = [self.client.encode(), *(self.will or ())]
        parts += [self.user.encode()] if self.flags & USER else []
        parts += [self.password] if self.flags & PASSWORD else []
        head = _field(PROTOCOL) + bytes((LEVEL, self.flags)) + struct.pack(">H", self.keep_alive_seconds)
        body = head + b"".join(map(_field, parts))
        return bytes((CONNECT,)) + _length(len(body)) + body

    def without_credentials(self, client_prefix: str = "") -> "Connect":
        """For the gateway, which knows a client by its certificate. A client id given gets the prefix, so that one
        device cannot take over the session of another."""
        client = client_prefix + self.client if self.client else ""
        return replace(self, flags=self.flags & ~(USER | PASSWORD), user="", password=b"", client=client)


def size(begun: bytes) -> int | None:
    """How long the packet is that begins so; None: more bytes are needed to say. Raises BadConnect."""
    if begun and begun[0] != CONNECT:
        raise BadConnect("the first packet is not CONNECT")
    length = 0
    for place, byte in enumerate(begun[1:HEAD_BYTES]):
        length |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            if (whole := length + place + 2) > MAX_CONNECT_BYTES:
                raise BadConnect(f"CONNECT has {whole} bytes; should be at most {MAX_CONNECT_BYTES}")
            return whole
    if len(begun) >= HEAD_BYTES:
        raise BadConnect("the length of CONNECT has more than four bytes")
    return None


def read(packet: bytes) -> Connect:
    """A whole packet. Raises BadConnect."""
    rest = _Rest(packet[_head(packet) :])
    if (name := rest.field()) != PROTOCOL:
        raise BadConnect(f"the protocol is {name[:16]!r}, not MQTT", REFUSED_PROTOCOL if name == b"MQIsdp" else NONE)
    level, flags = rest.take(2)
    if level != LEVEL:
        raise BadConnect(f"MQTT level {level}; only 3.1.1 (4) is spoken here", REFUSED_PROTOCOL)
    _check(flags)
    (keep_alive,) = struct.unpack(">H", rest.take(2))
    client = _text(rest.field())
    if not client and not flags & 0x02:
        raise BadConnect("no client id, and no clean session", REFUSED_CLIENT)
    will = (rest.field(), rest.field()) if flags & WILL else None
    user = _text(rest.field()) if flags & USER else ""
    password = rest.field() if flags & PASSWORD else b""
    if rest.left:
        raise BadConnect("bytes behind the end of CONNECT")
    return Connect(flags, keep_alive, client, user, password, will)


def refusal(code: int) -> bytes:
    """CONNACK."""
    return bytes((0x20, 2, 0, code))


def _check(flags: int) -> None:
    will = flags & WILL
    odd = flags & RESERVED or (not will and flags & (WILL_QOS | WILL_RETAIN)) or flags & WILL_QOS == WILL_QOS
    if odd or (flags & PASSWORD and not flags & USER):
        raise BadConnect(f"CONNECT's flags {flags:#04x} cannot be")


def _head(packet: bytes) -> int:
    whole = size(packet)
    if whole != len(packet):
        raise BadConnect("CONNECT is not whole")
    return next(place for place, byte in enumerate(packet[1:HEAD_BYTES], 2) if not byte & 0x80)


class _Rest:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise BadConnect("CONNECT ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def field(self) -> bytes:
        (length,) = struct.unpack(">H", self.take(2))
        return self.take(length)


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise BadConnect("a name in CONNECT is not UTF-8") from None
    if "\0" in text:
        raise BadConnect("a name in CONNECT holds a zero")
    return text


def _field(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _length(count: int) -> bytes:
    found = bytearray()
    while True:
        count, byte = divmod(count, 128)
        found.append(byte | (0x80 if count else 0))
        if not count:
            return bytes(found)

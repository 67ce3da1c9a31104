"""From registers and bits to values and back. Pure. A register is an int from 0 to 65535, most significant first."""

import base64
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from canopy.mapper.sdk import BadValue, PropertyFailed, Value
from canopy.mapper.values import as_bytes, text


class Kind(StrEnum):
    """How a value lies in its registers."""

    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BOOLEAN = "boolean"
    STRING = "string"
    BYTES = "bytes"
    BITS = "bits"


@dataclass(frozen=True, slots=True)
class Layout:
    """Kind, and what is done to it: value = raw * scale; `swap` swaps the bytes of each register, `word_swap` turns
    the order of the registers round."""

    kind: Kind
    scale: float = 1.0
    swap: bool = False
    word_swap: bool = False


_FORMATS = {
    Kind.INT16: ">h",
    Kind.UINT16: ">H",
    Kind.INT32: ">i",
    Kind.UINT32: ">I",
    Kind.INT64: ">q",
    Kind.UINT64: ">Q",
    Kind.FLOAT32: ">f",
    Kind.FLOAT64: ">d",
}
_FLOATS = frozenset({Kind.FLOAT32, Kind.FLOAT64})
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_TRUTH = {"true": True, "false": False}
CLOSE_TO_WHOLE = 1e-6
"""How far a desired value may be from a multiple of the scale, for what floats cannot write exactly."""


def decode(layout: Layout, words: Sequence[int]) -> Value:
    """The value that lies in `words` (bits, for BITS, and for BOOLEAN in a table of bits)."""
    if layout.kind is Kind.BOOLEAN:
        return any(words)
    if layout.kind is Kind.BITS:
        return sum(bool(bit) << i for i, bit in enumerate(words))
    data = _bytes(layout, words)
    if layout.kind is Kind.STRING:
        return data.rstrip(b"\0").decode("utf-8", "replace")
    if layout.kind is Kind.BYTES:
        return base64.b64encode(data).decode()
    return _scaled(layout, struct.unpack(_FORMATS[layout.kind], data)[0])


def encode(layout: Layout, count: int, value: str) -> list[int]:
    """The `count` registers or bits for a value's text. Raises BadValue that says what would fit."""
    if layout.kind is Kind.BOOLEAN:
        return _words(layout, struct.pack(">H", _truth(value)))
    if layout.kind is Kind.BITS:
        return _bits(count, _whole(layout, value))
    if layout.kind is Kind.STRING:
        return _words(layout, _padded(value.encode(), count))
    if layout.kind is Kind.BYTES:
        return _words(layout, _padded(as_bytes(value), count))
    raw = _float(value) / layout.scale if layout.kind in _FLOATS else _whole(layout, value)
    return _words(layout, _pack(layout, raw, value))


def _scaled(layout: Layout, raw: int | float) -> Value:
    if isinstance(raw, float):
        if not math.isfinite(raw):
            raise PropertyFailed(f"the registers hold {raw}, which is no number")
        raw = _shortest(raw) if layout.kind is Kind.FLOAT32 else raw
    if layout.scale == 1:
        return raw
    scaled = raw * layout.scale
    return round(scaled) if isinstance(raw, int) and layout.scale == int(layout.scale) else float(f"{scaled:.12g}")


def _shortest(raw: float) -> float:
    """The shortest decimal that is this float32: 21.3, not 21.299999237060547."""
    for digits in range(6, 10):
        found = float(f"{raw:.{digits}g}")
        if struct.pack(">f", found) == struct.pack(">f", raw):
            return found
    return raw


def _whole(layout: Layout, value: str) -> int:
    if layout.scale == 1 and _INTEGER.fullmatch(value):
        return int(value)
    raw = _float(value) / layout.scale
    if abs(raw - round(raw)) > CLOSE_TO_WHOLE * max(1.0, abs(raw)):
        raise BadValue(f"{value} is no multiple of {text(float(layout.scale))}, the scale")
    return round(raw)


def _pack(layout: Layout, raw: int | float, value: str) -> bytes:
    try:
        return struct.pack(_FORMATS[layout.kind], raw)
    except (struct.error, OverflowError):
        raise BadValue(f"{value} does not fit into {layout.kind}") from None


def _bits(count: int, value: int) -> list[int]:
    if not 0 <= value < 1 << count:
        raise BadValue(f"{value} does not fit into {count} bits: 0 to {(1 << count) - 1}")
    return [value >> i & 1 for i in range(count)]


def _truth(value: str) -> bool:
    try:
        return _TRUTH[value]
    except KeyError:
        raise BadValue(f'"{value}" is not true or false') from None


def _float(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if math.isfinite(found):
        return found
    raise BadValue(f'"{value}" is not a number')


def _padded(data: bytes, count: int) -> bytes:
    if len(data) > 2 * count:
        raise BadValue(f"{len(data)} bytes do not fit into {count} registers: {2 * count}")
    return data.ljust(2 * count, b"\0")


def _bytes(layout: Layout, words: Sequence[int]) -> bytes:
    ordered = reversed(words) if layout.word_swap else words
    return b"".join(struct.pack("<H" if layout.swap else ">H", word) for word in ordered)


def _words(layout: Layout, data: bytes) -> list[int]:
    words = [word for (word,) in struct.iter_unpack("<H" if layout.swap else ">H", data)]
    return words[::-1] if layout.word_swap else words

"""Registers to values and back."""

import base64
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.mapper.drivers.registers import Kind, Layout, decode, encode
from canopy.mapper.sdk import BadValue, PropertyFailed, Value
from canopy.mapper.values import text

BOUNDS = {
    Kind.INT16: (-(2**15), 2**15 - 1, 1),
    Kind.UINT16: (0, 2**16 - 1, 1),
    Kind.INT32: (-(2**31), 2**31 - 1, 2),
    Kind.UINT32: (0, 2**32 - 1, 2),
    Kind.INT64: (-(2**63), 2**63 - 1, 4),
    Kind.UINT64: (0, 2**64 - 1, 4),
}
swaps = st.booleans()


@pytest.mark.parametrize(
    ("layout", "words", "value"),
    [
        (Layout(Kind.UINT16), [65535], 65535),
        (Layout(Kind.INT16), [65535], -1),
        (Layout(Kind.UINT16, swap=True), [0x0100], 1),
        (Layout(Kind.UINT32), [1, 2], 65538),
        (Layout(Kind.UINT32, word_swap=True), [2, 1], 65538),
        (Layout(Kind.UINT16, scale=0.1), [213], 21.3),
        (Layout(Kind.UINT16, scale=10), [6], 60),
        (Layout(Kind.FLOAT32), [0x41AA, 0x6666], 21.3),
        (Layout(Kind.FLOAT64), [0x4035, 0x4CCC, 0xCCCC, 0xCCCD], 21.3),
        (Layout(Kind.BOOLEAN), [0], False),
        (Layout(Kind.BOOLEAN), [7], True),
        (Layout(Kind.BITS), [True, False, True], 5),
        (Layout(Kind.STRING), [0x4F4B, 0x2100], "OK!"),
        (Layout(Kind.BYTES), [0x0102], "AQI="),
    ],
)
def test_words_are_read_as_their_layout_says(layout: Layout, words: list[int], value: Value) -> None:
    assert decode(layout, words) == value
    if layout.kind is not Kind.BOOLEAN:
        assert encode(layout, len(words), text(value)) == [int(w) for w in words]


@given(st.data(), st.sampled_from(list(BOUNDS)), swaps, swaps)
def test_whole_numbers_come_back_as_they_were_written(data: st.DataObject, kind: Kind, a: bool, b: bool) -> None:
    low, high, count = BOUNDS[kind]
    value = data.draw(st.integers(low, high))
    layout = Layout(kind, swap=a, word_swap=b)
    assert decode(layout, encode(layout, count, str(value))) == value


@given(st.integers(0, 65535), st.sampled_from([0.1, 0.01, 0.5, 2.0, 10.0, -0.1]))
def test_what_was_read_with_a_scale_can_be_written_back(raw: int, scale: float) -> None:
    layout = Layout(Kind.UINT16, scale=scale)
    assert encode(layout, 1, text(decode(layout, [raw]))) == [raw]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), swaps, swaps)
def test_floats_of_32_bits_come_back(value: float, a: bool, b: bool) -> None:
    layout = Layout(Kind.FLOAT32, swap=a, word_swap=b)
    found = decode(layout, encode(layout, 2, repr(value)))
    assert isinstance(found, float) and math.isclose(found, value, rel_tol=1e-6, abs_tol=1e-44)
    assert encode(layout, 2, repr(found)) == encode(layout, 2, repr(value)), "the short form is the same float"


@given(st.floats(allow_nan=False, allow_infinity=False), swaps, swaps)
def test_floats_of_64_bits_come_back(value: float, a: bool, b: bool) -> None:
    layout = Layout(Kind.FLOAT64, swap=a, word_swap=b)
    assert decode(layout, encode(layout, 4, repr(value))) == value


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), swaps, swaps)
def test_texts_come_back(value: str, a: bool, b: bool) -> None:
    layout = Layout(Kind.STRING, swap=a, word_swap=b)
    assert decode(layout, encode(layout, 16, value)) == value


@given(st.binary(min_size=8, max_size=8), swaps, swaps)
def test_bytes_come_back(value: bytes, a: bool, b: bool) -> None:
    layout = Layout(Kind.BYTES, swap=a, word_swap=b)
    words = encode(layout, 4, base64.b64encode(value).decode())
    assert base64.b64decode(str(decode(layout, words))) == value


@given(st.integers(0, 2**12 - 1))
def test_bits_come_back(value: int) -> None:
    assert decode(Layout(Kind.BITS), encode(Layout(Kind.BITS), 12, str(value))) == value


@pytest.mark.parametrize(
    ("layout", "count", "value", "says"),
    [
        (Layout(Kind.INT16), 1, "40000", "40000 does not fit into int16"),
        (Layout(Kind.UINT16), 1, "-1", "-1 does not fit into uint16"),
        (Layout(Kind.UINT16), 1, "1.5", "1.5 is no multiple of 1, the scale"),
        (Layout(Kind.UINT16, scale=0.1), 1, "21.33", "21.33 is no multiple of 0.1, the scale"),
        (Layout(Kind.UINT16), 1, "inf", '"inf" is not a number'),
        (Layout(Kind.FLOAT32), 2, "1e300", "1e300 does not fit into float32"),
        (Layout(Kind.BOOLEAN), 1, "on", '"on" is not true or false'),
        (Layout(Kind.BITS), 2, "4", "4 does not fit into 2 bits: 0 to 3"),
        (Layout(Kind.STRING), 1, "abc", "3 bytes do not fit into 1 registers: 2"),
        (Layout(Kind.BYTES), 1, "?", '"?" is not base64'),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(layout: Layout, count: int, value: str, says: str) -> None:
    with pytest.raises(BadValue) as e:
        encode(layout, count, value)
    assert str(e.value) == says


def test_registers_that_hold_no_number_fail_the_property() -> None:
    with pytest.raises(PropertyFailed):
        decode(Layout(Kind.FLOAT32), [0x7FC0, 0])

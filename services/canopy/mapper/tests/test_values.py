"""Values as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.mapper import values
from canopy.mapper.sdk import BadValue, PropertyFailed, PropertyView, Value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (3.0, "3"),
        (-0.0, "0"),
        (0.1 + 0.2, "0.3"),
        (21.5, "21.5"),
        (1e-7, "0.0000001"),
        (1e20, "100000000000000000000"),
        (100.0, "100"),
        ("as it is ", "as it is "),
    ],
)
def test_a_value_is_said_without_noise(value: Value, text: str) -> None:
    assert values.text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_the_text_of_a_float_is_that_float(value: float) -> None:
    assert math.isclose(float(values.text(value)), value, rel_tol=1e-14, abs_tol=1e-300)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("int", 3.0, "3"),
        ("int", True, "1"),
        ("int", "+7", "7"),
        ("boolean", 1, "true"),
        ("boolean", "False", "false"),
        ("float", 3, "3"),
        ("double", "2.50", "2.5"),
        ("string", 3.0, "3"),
        ("bytes", "AQI=", "AQI="),
    ],
)
def test_what_a_driver_read_is_said_in_the_type_of_the_property(kind: str, value: Value, text: str) -> None:
    assert values.reported(PropertyView("p", kind), value) == text


@pytest.mark.parametrize(
    ("kind", "value"), [("int", 2.5), ("boolean", 2), ("float", math.inf), ("float", "x"), ("string", "x" * 65537)]
)
def test_what_is_not_of_the_type_fails_the_property(kind: str, value: Value) -> None:
    with pytest.raises(PropertyFailed):
        values.reported(PropertyView("p", kind), value)


def test_a_desired_value_is_written_in_one_form() -> None:
    prop = PropertyView("p", "float", minimum=-1.5, maximum=1.5)
    assert values.desired(prop, "1.50") == "1.5"
    with pytest.raises(BadValue, match=r"^1\.6 is above the maximum 1\.5$"):
        values.desired(prop, "1.6")
    assert values.desired(PropertyView("p", "boolean"), "1") == "true"


@pytest.mark.parametrize(
    ("kind", "a", "b", "expected"),
    [
        ("float", "50", "50.0", True),
        ("boolean", "1", "true", True),
        ("string", "50", "50.0", False),
        ("int", "x", "5", False),
    ],
)
def test_two_texts_may_be_one_value(kind: str, a: str, b: str, expected: bool) -> None:
    assert values.same(PropertyView("p", kind), a, b) is expected

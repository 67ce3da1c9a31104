"""Reading configData: what is accepted, and what an error says."""

import pytest

from canopy.mapper.sdk import BadConfig, Config

CONFIG = Config(
    {"ip": "10.0.0.1", "port": "502", "slaveID": 1, "scale": "0.1", "isSwap": "True", "register": "coilregister"},
    "protocol.configData",
    "property switch",
)


def test_numbers_and_flags_may_be_text_and_keys_and_words_have_any_case() -> None:
    assert CONFIG.integer("port") == 502
    assert CONFIG.integer("SlaveId") == 1
    assert CONFIG.number("scale") == 0.1
    assert CONFIG.flag("isswap") is True
    assert CONFIG.choice("register", {"CoilRegister": "c"}) == "c"
    assert CONFIG.text("ip") == "10.0.0.1"
    assert "IP" in CONFIG and "speed" not in CONFIG


def test_what_is_missing_has_its_default() -> None:
    config = Config({"empty": "", "null": None})
    assert config.integer("offset", 3) == 3
    assert config.text("empty", "x") == "x"
    assert config.number("null", 2.5) == 2.5
    assert config.flag("isSwap") is False


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("x", '"x" is not a number'),
        ("nan", '"nan" is not a number'),
        (True, "True is not a number"),
        ([1], "[1] is not a number"),
        ("1.5", '"1.5" is not a whole number from 0 to 9'),
        (10, "10 is not a whole number from 0 to 9"),
        (-1, "-1 is not a whole number from 0 to 9"),
        (None, "is missing"),
    ],
)
def test_a_bad_number_is_named_with_what_would_be_right(value: object, right: str) -> None:
    with pytest.raises(BadConfig) as e:
        Config({"offset": value}, "visitors.configData", "property p").integer("offset", most=9)
    assert str(e.value) == f"visitors.configData.offset of property p: {right}"
    assert (e.value.field, e.value.right) == ("visitors.configData.offset of property p", right)


def test_a_bad_word_is_named_with_all_that_would_be_right() -> None:
    with pytest.raises(BadConfig, match=r'^configData.register: "Coil" is none of CoilRegister, InputRegister$'):
        Config({"register": "Coil"}).choice("register", {"CoilRegister": 1, "InputRegister": 2})


def test_a_bad_flag_and_a_bad_text_are_named() -> None:
    with pytest.raises(BadConfig, match=r'isSwap: "yes" is not true or false'):
        Config({"isSwap": "yes"}).flag("isSwap")
    with pytest.raises(BadConfig, match=r"ip: \{\} is not a text"):
        Config({"ip": {}}).text("ip")

"""Lines for people and for machines."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Literal

import pytest

from canopy.runtime.logs import once_per, set_up, unit_of


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def lines(kind: Literal["plain", "json"], *args: object, trace: str | None = None, **extra: object) -> str:
    stream = io.StringIO()
    set_up("INFO", kind, lambda: trace, stream)
    logging.getLogger("canopy.devicetwin.core").info(*args, extra=extra)  # type: ignore[arg-type]
    return stream.getvalue()


def test_a_plain_line_has_time_level_unit_message_and_pairs(root: logging.Logger) -> None:
    line = lines("plain", "stored %s", "twins", count=3, where="a b", none="")
    assert re.fullmatch(r'\d\d:\d\d:\d\d\.\d{3} INFO    devicetwin stored twins count=3 where="a b" none=""\n', line)


def test_a_json_line_is_one_object_with_the_trace(root: logging.Logger) -> None:
    body = json.loads(lines("json", "stored", trace="ab" * 16, count=3))
    assert body.pop("at").endswith("+00:00")
    expected = {"level": "INFO", "unit": "devicetwin", "message": "stored", "count": 3, "trace_id": "ab" * 16}
    assert body == expected


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_without_a_trace_there_is_no_trace_id(root: logging.Logger, kind: Literal["plain", "json"]) -> None:
    assert "trace_id" not in lines(kind, "stored")


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_text_from_outside_cannot_forge_a_line(root: logging.Logger, kind: Literal["plain", "json"]) -> None:
    assert lines(kind, "got %s", "x\n12:00:00.000 ERROR forged", device="a\r\nb\x1b[2J").count("\n") == 1


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_a_traceback_is_kept(root: logging.Logger, kind: Literal["plain", "json"]) -> None:
    stream = io.StringIO()
    set_up("INFO", kind, None, stream)
    try:
        raise LookupError("nowhere")
    except LookupError:
        logging.getLogger("canopy.run").exception("crashed")
    assert "LookupError: nowhere" in stream.getvalue()
    assert (stream.getvalue().count("\n") == 1) == (kind == "json")


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_a_line_is_bounded(root: logging.Logger, kind: Literal["plain", "json"]) -> None:
    assert len(lines(kind, "x" * 100_000)) < 20_000


def test_what_cannot_be_json_is_written_as_text(root: logging.Logger) -> None:
    assert json.loads(lines("json", "x", path=object))["path"] == "<class 'object'>"


def test_less_than_the_level_is_silent(root: logging.Logger) -> None:
    stream = io.StringIO()
    set_up("WARNING", stream=stream)
    logging.getLogger("canopy.run").info("x")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("name", "unit"), [("canopy.edgehub.core", "edgehub"), ("canopy", "canopy"), ("nats", "nats")])
def test_the_unit_is_in_the_logger_s_name(name: str, unit: str) -> None:
    assert unit_of(name) == unit


def test_a_repeated_line_is_said_once_in_its_time() -> None:
    now = 0.0
    say = once_per(60, lambda: now)
    assert [say("down"), say("down"), say("other"), say("down")] == [True, False, True, False]
    now = 60.0
    assert say("down")


def test_only_so_many_lines_are_remembered() -> None:
    say = once_per(60, lambda: 0.0)
    for number in range(1_001):
        say(str(number))
    assert say("0")
    assert not say("1000")

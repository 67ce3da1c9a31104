"""`canopy join`: what is asked for, and what is said when it cannot be."""

from pathlib import Path
from typing import Any

import pytest

from canopy.cli.joined import Place, commands, write_settings
from canopy.identity import joinroot
from canopy.identity.joining_words import Token
from canopy.identity.joinstate import JoinState
from canopy.testing.child import free_port

ROOT = joinroot.new("canopy.test", 1_700_000_000)
NOBODY = Token("edge-1", "ab", "cd", "ab" * 32, "https://127.0.0.1:1", "tls://127.0.0.1:7422").text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "canopy node token NODE"),
        (("--token", "nonsense"), "begins with"),
        (("--token-file", "/nowhere"), "no file"),
        (("http://x:1", "--token", NOBODY), "https://HOST:PORT"),
        (("https://x:1/path", "--token", NOBODY), "https://HOST:PORT"),
        (("--token", Token("edge-1", "ab", "cd", "ab" * 32).text), "where is the join endpoint"),
        (("https://x:1", "--certificate", "c.pem"), "--node"),
        (("https://x:1", "--certificate", "c", "--node", "A b", "--key", "k", "--root", "r"), "--node"),
        (("https://x:1", "--certificate", "c", "--node", "a", "--key", "k", "--root", "r"), "--certificate"),
    ],
)
def test_wrong_usage_says_what_would_be_right(canopy: Any, arguments: tuple[str, ...], word: str) -> None:
    ended = canopy("join", *arguments)
    assert ended.code == 2 and word in ended.err, ended.err


def test_an_endpoint_that_does_not_answer_is_no_connection(canopy: Any) -> None:
    ended = canopy("join", f"https://127.0.0.1:{free_port()}", "--token", NOBODY)
    assert ended.code == 4 and "does not answer" in ended.err


def test_a_folder_that_nobody_joined_starts_nothing(canopy: Any, tmp_path: Path) -> None:
    ended = canopy("join", "--start", "--dir", str(tmp_path / "x"))
    assert ended.code == 1 and "holds no joined node" in ended.err


def test_settings_are_written_once_and_what_an_operator_adds_stays(tmp_path: Path) -> None:
    place = Place(tmp_path / "node")
    write_settings(place, "edge-1", "canopy.test", "tls://hub:7422")
    place.settings.write_text(place.settings.read_text() + "CANOPY_LOG_LEVEL=DEBUG\n")
    write_settings(place, "edge-2", "canopy.test", "")
    lines = place.settings.read_text().splitlines()
    assert lines.count("CANOPY_NODE_NAME=edge-2") == lines.count("CANOPY_LOG_LEVEL=DEBUG") == 1
    assert "CANOPY_EDGEIDENTITY_HUB_URL=tls://hub:7422" in lines and "CANOPY_NODE_NAME=edge-1" not in lines
    assert f"CANOPY_ENV_FILE={place.settings} canopy run edgeidentity edgehub" in commands(place)[0]


def test_a_key_of_an_earlier_try_stays_and_is_never_shown(tmp_path: Path) -> None:
    first = JoinState.begin(tmp_path, "edge-1", ("https://x:1",), ROOT.certificate_pem)
    again = JoinState.begin(tmp_path, "edge-1", ("https://y:1",), ROOT.certificate_pem)
    assert again.key_pem == first.key_pem and "PRIVATE" not in repr(first)
    assert [file.name for file in tmp_path.iterdir()] == ["node.key"]

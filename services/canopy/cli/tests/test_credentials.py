"""`canopy device provision|token|revoke`: what is wrong usage, and what is said where nobody answers. What they do is
tried with a whole node, in edgeidentity's tests.
"""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from canopy.cli import credentials
from canopy.cli.credentials import ttl_seconds
from canopy.contracts import admin as words
from canopy.contracts.admin import AdminAnswer
from canopy.identity.admin import short


@pytest.fixture(autouse=True)
def no_node_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test must never find a node that runs here: these commands change it."""
    monkeypatch.chdir(tmp_path)  # nor a demo of the folder
    monkeypatch.setattr(credentials, "USUAL", ())
    for name in ("CANOPY_DATA_DIR", credentials.SOCKET_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("provision", "a/b/c"), "default/light"),
        (("provision", "/light"), "default/light"),
        (("token", "light", "--ttl", "soon"), "720h"),
        (("provision", "light", "--ttl", "5s"), "60s at least"),
        (("token", "light", "--ttl", "999999999d"), "720h"),
    ],
)
def test_wrong_usage_says_what_would_be_right(canopy: Any, arguments: tuple[str, ...], word: str) -> None:
    ended = canopy("device", *arguments, "--socket", "/nowhere")
    assert ended.code == 2 and word in ended.err


@pytest.mark.parametrize("command", ["provision", "token", "revoke"])
def test_where_nobody_answers_it_is_said_where_and_how_to_name_another_place(
    canopy: Any, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANOPY_DATA_DIR", str(tmp_path))
    ended = canopy("device", command, "light")
    assert ended.code == 4
    assert f"{tmp_path}/identity/admin.sock" in ended.err and "--socket" in ended.err


def test_a_named_folder_is_the_only_one_that_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "usual" / "identity" / "admin.sock"
    there.parent.mkdir(parents=True)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener, short(there) as name:
        listener.bind(name)
        monkeypatch.setattr(credentials, "USUAL", (str(tmp_path / "usual"),))
        assert credentials._socket("") == there
        monkeypatch.setenv("CANOPY_DATA_DIR", str(tmp_path / "mine"))
        assert credentials._socket("") == tmp_path / "mine" / "identity" / "admin.sock"


@pytest.mark.parametrize(("verdict", "code"), [(words.NOT_FOUND, 3), (words.REFUSED, 1), (words.AWAY, 4)])
def test_a_refusal_is_told_in_the_nodes_words(
    canopy: Any, monkeypatch: pytest.MonkeyPatch, verdict: str, code: int
) -> None:
    async def refused(path: Path, question: Any) -> AdminAnswer:
        return AdminAnswer(verdict=verdict, reason="set spec.nodeName of the Device to edge-1")

    monkeypatch.setattr(credentials, "ask", refused)
    ended = canopy("device", "provision", "light", "--socket", "/x")
    assert (ended.code, "spec.nodeName" in ended.err) == (code, True)


def test_a_revocation_says_what_is_worth_nothing_and_whether_the_leaf_knows_it(
    canopy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def revoked(path: Path, question: Any) -> AdminAnswer:
        assert isinstance(question, words.DeviceRevokeAsk) and question.reason == "stolen"
        return AdminAnswer(id="spiffe://e.t/device/default/light", reason="the leaf is not connected")

    monkeypatch.setattr(credentials, "ask", revoked)
    ended = canopy("device", "revoke", "light", "--reason", "stolen", "--socket", "/x")
    assert ended.out.splitlines() == [
        "default/light: spiffe://e.t/device/default/light is worth nothing any more",
        "the leaf is not connected",
    ]
    ended = canopy("device", "revoke", "light", "--reason", "stolen", "--socket", "/x", "-o", "json")
    assert json.loads(ended.out)["revoked"] == "spiffe://e.t/device/default/light"


def test_a_ttl_is_a_time() -> None:
    assert (ttl_seconds("720h"), ttl_seconds("90d")) == (720 * 3600.0, 90 * 86_400.0)

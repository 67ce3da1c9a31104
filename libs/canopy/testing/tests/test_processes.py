"""Child processes: they come up, end, come again, and say why when they do not."""

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

import pytest

from canopy.testing.child import HOST, free_port, tail
from canopy.testing.processes import NotReady, Process, birth, environment

pytestmark = pytest.mark.server


def light(tmp_path: Path) -> Process:
    return Process("light", ("canopy.testing.light",), tmp_path / "light.log")


async def test_a_process_is_ready_when_it_says_so_and_can_be_stopped_and_started_again(tmp_path: Path) -> None:
    process = light(tmp_path)
    await process.start()
    first = process.pid
    assert process.said() and birth(first)
    await process.restart(kill=True)
    assert process.pid not in (0, first) and not birth(first)
    await process.stop()
    assert not process.running and process.pid == 0


async def test_a_process_that_ends_while_starting_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = Process("odd/one", ("canopy.testing.light", "--lights", "0"), tmp_path / "odd.log")
    with pytest.raises(NotReady, match=r"odd/one ended with exit code 2 while starting(.|\n)*give 1 to 247") as raised:
        await process.start()
    assert raised.value.process == "odd/one"


async def test_a_process_that_never_becomes_ready_is_given_up(tmp_path: Path) -> None:
    process = Process("slow", ("http.server", "0"), tmp_path / "slow.log")
    process.spawn()
    with pytest.raises(NotReady, match=r"is not ready after 0\.2 s"):
        await process.ready(0.2)
    await process.kill()


async def test_what_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    process = light(tmp_path)
    await process.start()
    os.kill(process.pid, 19)  # SIGSTOP: it hears nothing any more
    async with asyncio.timeout(5):
        await process.stop(seconds=0.1)
    assert not process.running


def test_what_a_person_has_set_for_canopy_does_not_reach_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANOPY_NATS_URL", "nats://elsewhere")
    assert "CANOPY_NATS_URL" not in environment({"A": "1"}) and environment({"A": "1"})["A"] == "1"


def test_a_log_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    assert "No such file" in tail(tmp_path / "none")
    (tmp_path / "empty").touch()
    assert "empty" in tail(tmp_path / "empty")


def _listening_beyond(port: int) -> socket.socket:
    """On the next port that is free: another process may listen on some."""
    while True:
        port += 1
        with contextlib.suppress(OSError):
            return socket.create_server((HOST, port))


def test_a_port_is_given_once_is_free_and_is_none_that_the_kernel_gives_to_clients() -> None:
    with _listening_beyond(free_port()) as taken:
        given = [free_port() for _ in range(50)]
        assert len(set(given)) == 50 and taken.getsockname()[1] not in given
        assert all(1024 < port < 30_000 for port in given)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a port that is held cannot be listened on")
def test_a_port_that_was_given_is_nobody_elses_before_its_server_listens_and_while_that_starts_again() -> None:
    port = free_port()
    for _ in range(2):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))
        socket.create_server((HOST, port)).close()

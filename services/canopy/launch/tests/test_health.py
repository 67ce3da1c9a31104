"""What an image's health command says, and what the entry point takes."""

import asyncio
import io
import subprocess
import sys
from collections.abc import Mapping

import pytest

from canopy.launch.__main__ import main
from canopy.launch.asking import NoHealth, ask
from canopy.runtime.health import Health, HealthServer, Metrics


def launched(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(arguments, environment or {}, out, err), out.getvalue(), err.getvalue()


async def asked(health: Health, *arguments: str, listen: str = "0.0.0.0") -> tuple[int, str, str]:
    async with HealthServer([health], Metrics()) as server:
        environment = {"CANOPY_HEALTH_LISTEN": f"{listen}:{server.port}"}
        return await asyncio.to_thread(launched, *arguments, environment=environment)


@pytest.mark.parametrize("listen", ["0.0.0.0", "127.0.0.1", ""])
async def test_a_process_that_answers_is_healthy(listen: str) -> None:
    assert await asked(Health("edgehub"), "--health", listen=listen) == (0, "ok\n", "")


async def test_ready_is_another_question_and_says_what_is_not() -> None:
    health = Health("edgehub")
    health.set("link", False, "waiting for NATS")
    code, out, _ = await asked(health, "--ready")
    assert code == 1 and "waiting for NATS" in out
    health.set("link", True)
    assert (await asked(health, "--ready"))[0] == 0


def test_where_nobody_answers_the_address_is_said() -> None:
    code, out, _ = launched("--health", environment={"CANOPY_HEALTH_LISTEN": "127.0.0.1:1"})
    assert code == 1 and out.startswith("http://127.0.0.1:1/healthz: ")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "0.0.0.0", "nonsense:x"])
def test_a_port_that_cannot_be_asked_is_said(listen: str) -> None:
    with pytest.raises(NoHealth, match=r"CANOPY_HEALTH_LISTEN is .*give it a port of its own"):
        ask(listen, "/healthz")


async def test_what_speaks_no_http_is_not_healthy() -> None:
    async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"+PONG\r\n")
        writer.close()

    async with await asyncio.start_server(noise, "127.0.0.1", 0) as server:
        listen = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(NoHealth, match="speaks no HTTP"):
            await asyncio.to_thread(ask, listen, "/healthz")


def test_asking_for_health_imports_no_unit_and_no_library() -> None:
    names = "(m for m in sys.modules if m[:7] in ('canopy.', 'pydanti'))"
    code = f"import sys, canopy.launch.__main__; print(*sorted({names}))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == [f"canopy.launch{part}" for part in ("", ".__main__", ".asking", ".errors")]


@pytest.mark.parametrize(
    ("arguments", "units", "said"),
    [
        ((), "", "UNIT: name some of cloudhub, devicecontroller"),
        (("--helth",), "", "UNIT: name some of"),
        (("edgehup",), "", "there is no unit 'edgehup'"),
        ((), "edgehub cloudhub", "units of two planes share no connection"),
    ],
)
def test_wrong_names_end_with_usage(arguments: tuple[str, ...], units: str, said: str) -> None:
    code, _, err = launched(*arguments, environment={"CANOPY_UNITS": units})
    assert code == 2 and said in err


def test_help_says_how_it_is_called() -> None:
    assert "python -m canopy.launch [UNIT...]" in launched("--help")[1]

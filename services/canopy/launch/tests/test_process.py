"""A process before it has a bus: what its port says of it."""

import asyncio
import json
import logging
from pathlib import Path

import pytest

from canopy.launch.errors import WrongUsage
from canopy.launch.process import run_process
from canopy.launch.units import chosen
from canopy.testing.child import free_port
from canopy.testing.wait import until


@pytest.mark.parametrize("insecure", ["false", "true"])
async def test_a_unit_without_a_bus_is_healthy_and_not_ready(
    insecure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready, it would take the place of a pod that works."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))  # a process sets up its log; this one is the tests'
    monkeypatch.setattr(root, "level", root.level)
    port = free_port()
    monkeypatch.setenv("CANOPY_NATS_URL", f"nats://127.0.0.1:{free_port()}")
    monkeypatch.setenv("CANOPY_HEALTH_LISTEN", f"127.0.0.1:{port}")
    monkeypatch.setenv("CANOPY_INSECURE_LISTEN", insecure)
    monkeypatch.setenv("CANOPY_IDENTITY_DIR", str(tmp_path))
    process = asyncio.create_task(run_process(chosen(["edgehub"])))
    try:
        head, body = await until(lambda: _get(port, "/readyz"), 10)
        assert "503" in head
        (running,) = [c for c in json.loads(body)["checks"] if c["check"] == "running"]
        assert running["detail"].startswith("connecting to nats://")
        assert "200" in (await _get(port, "/healthz"))[0]
    finally:
        process.cancel()
        await asyncio.gather(process, return_exceptions=True)


async def test_a_process_without_an_identity_is_told_who_gives_one() -> None:
    with pytest.raises(WrongUsage, match=r"CANOPY_IDENTITY_DIR is empty: .*`canopy join`"):
        await run_process(chosen(["edgehub"]))


async def _get(port: int, path: str) -> tuple[str, str]:
    """(status line, body); nothing while nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return ()  # type: ignore[return-value]
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head.splitlines()[0], body

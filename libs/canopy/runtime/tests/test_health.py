"""Health and metrics over a real socket on a free port."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from canopy.runtime.health import MOST_CONNECTIONS, Health, HealthServer, Metrics
from canopy.testing.wait import until


@pytest.fixture
def health() -> Health:
    return Health("devicetwin")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def server(health: Health, metrics: Metrics) -> AsyncIterator[HealthServer]:
    async with HealthServer([health], metrics) as running:
        yield running


async def raw(server: HealthServer, request: bytes) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    async with asyncio.timeout(5):
        answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


async def get(server: HealthServer, path: str) -> tuple[int, str]:
    return await raw(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def test_it_is_live_as_soon_as_it_answers(server: HealthServer) -> None:
    assert await get(server, "/healthz") == (200, "ok\n")


async def test_a_unit_that_has_said_nothing_is_not_ready(server: HealthServer) -> None:
    status, body = await get(server, "/readyz")
    assert (status, json.loads(body)) == (503, {"ready": False, "checks": [], "silent": ["devicetwin"]})


async def test_it_is_ready_when_all_checks_are_ok(server: HealthServer, health: Health) -> None:
    health.set("database", True)
    health.set("link", False, "no hub answers")
    status, body = await get(server, "/readyz")
    failing = {"unit": "devicetwin", "check": "link", "ok": False, "detail": "no hub answers"}
    assert (status, json.loads(body)["checks"][1]) == (503, failing)
    health.set("link", True)
    status, body = await get(server, "/readyz?verbose")
    assert (status, json.loads(body)["ready"]) == (200, True)


async def test_folded_units_are_ready_together(metrics: Metrics) -> None:
    first, second = Health("a"), Health("b")
    first.set("x", True)
    async with HealthServer([first, second], metrics) as server:
        assert (await get(server, "/readyz"))[0] == 503
        second.set("x", True)
        assert (await get(server, "/readyz"))[0] == 200


async def test_metrics_are_prometheus_text(server: HealthServer, metrics: Metrics) -> None:
    reports = metrics.counter("canopy_reports_total", "Reports\nfrom devices.")
    reports.add()
    reports.add(2, result="ok", kind='a"\\b\n')
    metrics.gauge("canopy_lag_seconds", "How far behind.").set(0.25)
    metrics.gauge("canopy_devices", "Devices known.", read=lambda: 7)
    metrics.counted("canopy_commits_total", lambda: 3, "Commits.")
    status, body = await get(server, "/metrics")
    assert status == 200
    assert body.splitlines() == [
        r"# HELP canopy_reports_total Reports\nfrom devices.",
        "# TYPE canopy_reports_total counter",
        "canopy_reports_total 1",
        r'canopy_reports_total{kind="a\"\\b\n",result="ok"} 2',
        "# HELP canopy_lag_seconds How far behind.",
        "# TYPE canopy_lag_seconds gauge",
        "canopy_lag_seconds 0.25",
        "# HELP canopy_devices Devices known.",
        "# TYPE canopy_devices gauge",
        "canopy_devices 7",
        "# HELP canopy_commits_total Commits.",
        "# TYPE canopy_commits_total counter",
        "canopy_commits_total 3",
    ]


async def test_a_metric_that_fails_to_be_read_does_not_end_the_server(server: HealthServer, metrics: Metrics) -> None:
    metrics.gauge("canopy_broken", "Broken.", read=lambda: 1 / 0)
    assert (await get(server, "/metrics"))[0] == 500
    assert (await get(server, "/healthz"))[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"POST /healthz HTTP/1.1\r\n\r\n", 405),
        (b"hello\r\n\r\n", 400),
        (b"GET /healthz SPDY/1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
    ],
)
async def test_a_bad_request_is_told_so(server: HealthServer, request_bytes: bytes, status: int) -> None:
    assert (await raw(server, request_bytes))[0] == status
    assert await get(server, "/healthz") == (200, "ok\n")


async def test_a_request_that_does_not_end_is_told_so(health: Health, metrics: Metrics) -> None:
    async with HealthServer([health], metrics, timeout_seconds=0.2) as server:
        assert (await raw(server, b"GET /healthz HTTP/1.1\r\n"))[0] == 408


async def test_a_client_that_goes_away_harms_nothing(server: HealthServer) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /hea")
    writer.close()
    await writer.wait_closed()
    assert await get(server, "/healthz") == (200, "ok\n")


async def test_more_connections_than_the_bound_are_closed(server: HealthServer) -> None:
    opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(MOST_CONNECTIONS + 8)]
    within, beyond = opened[:MOST_CONNECTIONS], opened[MOST_CONNECTIONS:]
    async with asyncio.timeout(3):  # those within the bound would be told 408 later than that
        assert [await reader.read() for reader, _ in beyond] == [b""] * 8
    assert not any(reader.at_eof() for reader, _ in within)
    for _, writer in opened:
        writer.close()
    await until(lambda: not server._talking)
    assert await get(server, "/healthz") == (200, "ok\n")


async def test_closing_does_not_wait_for_open_connections(health: Health, metrics: Metrics) -> None:
    async with asyncio.timeout(5):
        async with HealthServer([health], metrics, timeout_seconds=60) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert (await get(server, "/healthz"))[0] == 200
        assert await reader.read() == b""
        writer.close()


def test_the_same_name_is_the_same_metric() -> None:
    metrics = Metrics()
    metrics.counter("a_total", "A.").add()
    metrics.counter("a_total", "A.").add()
    assert metrics.counter("a_total", "A.").value() == 2
    with pytest.raises(ValueError, match="already a counter"):
        metrics.gauge("a_total", "A.")


def test_a_counter_does_not_fall_and_a_name_is_checked() -> None:
    with pytest.raises(ValueError, match="only rises"):
        Metrics().counter("a_total", "A.").add(-1)
    with pytest.raises(ValueError, match="metric name"):
        Metrics().gauge("a-b", "A.")


def test_the_series_of_a_metric_are_bounded() -> None:
    gauge = Metrics().gauge("a", "A.")
    for number in range(1_002):
        gauge.set(1, device=str(number))
    assert (len(list(gauge.text())), gauge.left_out) == (1_002, 2)  # HELP and TYPE with 1,000 series

"""One topology for the session; what a story breaks it mends. Logs of every container are kept when a story fails."""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from boxes import Run
from docker.errors import APIError
from stories import Stories
from sweeping import swept
from telling import figures, kept, say
from topology import Topology

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "e2e"
STORY_SECONDS = 600
RUNS: list[Run] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "short: told in CI too (`make e2e ARGS='-m short'`)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for the session; a story says its claim when it begins."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.timeout(STORY_SECONDS))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def topology() -> AsyncIterator[Topology]:
    """All of it, ready; gone at the end, also when it never came up."""
    for name in swept():
        say(f"removed {name}, which a run of before has left")
    programs = os.environ.get("CANOPY_E2E_PROGRAMS")
    directory = BUILD / f"run-{os.getpid()}"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    run = Run(directory)
    RUNS.append(run)
    say("== the topology starts")
    try:
        async with Topology(run, Path(programs) if programs else None) as whole:
            say(f"== ready after {whole.figures['seconds until all is ready']} s: {len(run.boxes)} containers")
            yield whole
            with contextlib.suppress(APIError):  # interrupted: there may be nothing to measure
                await whole.measured()
            figures(whole.figures, BUILD / "figures.json")
    except Exception:
        say(f"== logs: {kept(BUILD / 'logs' / 'topology', run.boxes)}")
        raise
    finally:
        await run.gone()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stories(topology: Topology) -> AsyncIterator[Stories]:
    """What stories do in Kubernetes, in words."""
    async with topology.kube() as kube, topology.api() as api:
        told = Stories(topology, kube, api)  # type: ignore[arg-type]
        await told.prepare()
        yield told


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep the logs of a story that failed, before anything is mended."""
    report = (yield).get_result()  # type: ignore[attr-defined,misc]
    if report.when in ("setup", "call") and report.failed and RUNS:
        folder = kept(BUILD / "logs" / item.name, RUNS[-1].boxes)
        say(f"    logs of every container: {folder}")
        report.sections.append(("logs of every container", str(folder)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    claim = " ".join((item.module.__doc__ or item.name).split())  # type: ignore[attr-defined]
    say(f"\n{item.path.stem}: {claim}")


def pytest_sessionstart() -> None:
    """SIGTERM ends a run as Ctrl-C does: what it made is removed."""
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))

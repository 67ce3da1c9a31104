"""One installation for all stories, in the order of their files; the first story makes it anew, the last removes it.
A story that is run alone finds it, or installs it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import evidence
import pytest
from installation import Installation

FIGURES: list[list[str]] = []
"""Of this run's installation: said at its end."""


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Not yet installed, maybe; see `canopy`."""
    one = Installation(tmp_path_factory.mktemp("cluster"))
    FIGURES.append(one.figures)
    yield one
    asyncio.run(one.close())


@pytest.fixture
async def canopy(installation: Installation) -> Installation:
    """Installed, ready, with both edges."""
    await installation.ensure()
    return installation


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep what explains a failure, before anything is cleaned up."""
    report = (yield).get_result()  # type: ignore[attr-defined,misc]
    if report.failed and item.get_closest_marker("cluster"):
        one = getattr(item, "funcargs", {}).get("installation") or getattr(item, "funcargs", {}).get("canopy")
        folder: Path = evidence.keep(item.name, one.directory if one else None)
        report.sections.append(("kept", f"logs, descriptions and events of every pod: {folder}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Times, memory, what was sent against what was seen."""
    if lines := [line for figures in FIGURES for line in figures]:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(lines))

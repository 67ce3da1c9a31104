"""A whole system whose every certificate ends within seconds, ten times over: the hub's, each cloud unit's, the node's
at the hub, its leaf's, each of its units'. A device reports and is told what to be meanwhile (`make rotations`; another
number of lives: CANOPY_TEST_LIFETIMES).
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from own_certificates import provision
from stories import Stories
from talk import Talk, device, talk

from canopy.identity.certificates import certificates
from canopy.identity.identity import SVID_FILE
from canopy.testing.system import System
from canopy.testing.wait import until

pytestmark = [pytest.mark.rotations, pytest.mark.timeout(300)]
LIVES, TTL_SECONDS = int(os.environ.get("CANOPY_TEST_LIFETIMES", "10")), 12
LOOK_SECONDS = 0.25
REPORT_SECONDS = 0.1
ANSWER_SECONDS = 10.0
LOST = "lost; reconnecting"
LINK_CLOSED = "Leafnode connection closed"
LASTS = {
    "SPIRE_INTEGRATION_UNIT_TTL_SECONDS": str(TTL_SECONDS),
    "SPIRE_INTEGRATION_HUB_TTL_SECONDS": str(TTL_SECONDS),
    "SPIRE_INTEGRATION_KEEP_SECONDS": "1",
    "SPIRE_INTEGRATION_NODE_TTL_SECONDS": str(TTL_SECONDS),
    "EDGEIDENTITY_SVID_TTL_SECONDS": str(TTL_SECONDS),
}


@pytest_asyncio.fixture(loop_scope="session")
async def stories(tmp_path: Path) -> AsyncIterator[Stories]:
    async with System(tmp_path, split=True, settings=LASTS) as system, system.kube() as kube, system.api() as api:
        told = Stories(system, kube, api)
        await told.prepare()
        yield told


@dataclass
class Lives:
    """Of every certificate that lies in a folder below `roots`: when it ends, by folder and serial."""

    roots: tuple[Path, ...]
    ends: dict[Path, dict[int, float]] = field(default_factory=dict)

    def ended(self) -> dict[Path, int]:
        """How many of each folder have ended by now."""
        for file in (file for root in self.roots for file in root.rglob(SVID_FILE)):
            first = certificates(file.read_bytes())[0]
            known = self.ends.setdefault(file.parent, {})
            known[first.serial_number] = first.not_valid_after_utc.timestamp()
        now = time.time()
        return {folder: sum(end < now for end in known.values()) for folder, known in self.ends.items()}


@dataclass
class Lamp:
    """Reports its number without a pause, each when the one before is answered; and becomes what it is told."""

    talk: Talk
    stories: Stories
    reports: int = 0
    wishes: int = 0
    slowest_seconds: float = 0.0

    async def report(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            self.reports += 1
            await self.talk.say("twin/update", _twin(str(self.reports), "serial", str(self.reports)))
            await asyncio.sleep(REPORT_SECONDS)

    async def obey(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            self.wishes += 1
            wish, since = f"m{self.wishes}", time.monotonic()
            await self.stories.api.set_desired("default", "lamp", {"mode": wish})
            while (await self.talk.next("twin/update/delta", ANSWER_SECONDS))["delta"].get("mode") != wish:
                pass
            await self.talk.say("twin/update", _twin(wish, "mode", wish))
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - since)

    def answered(self) -> list[int]:
        """Numbers of the reports that were taken, in the order of the answers."""
        heard = [body for suffix, body in self.talk.heard if suffix == "twin/update/result" and "code" not in body]
        return [int(body["event_id"]) for body in heard if body["event_id"].isdigit()]


async def test_no_report_no_wish_and_no_connection_is_lost_while_every_certificate_ends_ten_times(
    stories: Stories,
) -> None:
    system = stories.system
    await stories.create("lamp")
    lamp = await provision(system, "lamp", "edge-1")
    lives = Lives((system.directory / "trust" / "identities", *_of_the_node(system)))
    async with talk(lamp.port, device("lamp"), context=lamp.tls, host="localhost") as spoken:
        one, ending = Lamp(spoken, stories), asyncio.Event()
        tasks = [asyncio.create_task(one.report(ending)), asyncio.create_task(one.obey(ending))]

        async def over() -> bool:
            await asyncio.sleep(LOOK_SECONDS)
            return min(lives.ended().values()) >= LIVES or any(task.done() for task in tasks)

        await until(over, LIVES * TTL_SECONDS + 60)
        ending.set()
        await asyncio.gather(*tasks)
        await until(lambda: len(one.answered()) >= one.reports, ANSWER_SECONDS)
    assert one.answered() == list(range(1, one.reports + 1))
    await stories.shows("lamp", {"serial": str(one.reports), "mode": f"m{one.wishes}"}, ANSWER_SECONDS)
    lost = {name: log.read_text().count(LOST) for name, (_, log) in system.pids().items()}
    assert not {name: count for name, count in lost.items() if count}
    link = system.node().leaf.server.log.read_text().count(LINK_CLOSED)
    ended = lives.ended()
    assert link <= ended[system.home().identity / "link"]
    assert (await stories.api.get("deadletters"))["deadletters"] == []
    print(
        f"{sum(ended.values())} certificates of {len(ended)} identities ended: {one.reports} reports, each answered;"
        f" {one.wishes} wishes came true within {one.slowest_seconds:.1f} s; the link came anew {link} times"
    )


def _of_the_node(system: System) -> tuple[Path, ...]:
    return tuple(system.home().identity / name for name in ("link", "leaf", "units"))


def _twin(event: str, name: str, value: str) -> dict[str, object]:
    return {"event_id": event, "twin": {name: {"actual": {"value": value}}}}

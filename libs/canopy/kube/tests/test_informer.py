"""The informer against a fake Kubernetes: what it does when a watch misbehaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from canopy.kube.api import Event, Listed
from canopy.kube.errors import Gone, KubeError, Unavailable
from canopy.kube.informer import Informer, InformerSettings, backoff
from canopy.kube.resource import DEVICES
from canopy.runtime.letters import DeadLetters

QUICK = InformerSettings(watch_seconds=1, backoff_first_seconds=0.001, backoff_most_seconds=0.002)


def body(name: str, revision: int, **more: Any) -> bytes:
    meta = {"namespace": "d", "name": name, "resourceVersion": str(revision)}
    return json.dumps({"metadata": meta, **more}).encode()


class Script:
    """A Kube whose lists and watches are written down beforehand; when they are used up it stays silent."""

    def __init__(self, lists: list[Listed | KubeError], watches: list[list[Event] | KubeError]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[int] = []
        self.now = 1_000
        """Kubernetes' own revision, which is asked for before each watch."""
        self.quiet = asyncio.Event()

    async def list(self, *_: Any, field_selector: str = "", **__: Any) -> Listed:
        if field_selector:
            return Listed((), self.now)
        found = self.lists.pop(0)
        if isinstance(found, KubeError):
            raise found
        return found

    @asynccontextmanager
    async def watch(self, *_: Any, revision: int, **__: Any) -> AsyncIterator[AsyncIterator[Event]]:
        self.asked.append(revision)
        if not self.watches:
            self.quiet.set()
            await asyncio.Event().wait()
        found = self.watches.pop(0)
        if isinstance(found, KubeError):
            raise found
        yield _said(found)


async def _said(events: list[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


async def played(script: Script, **options: Any) -> Informer[Any]:
    informer = Informer(script, DEVICES, json.loads, settings=QUICK, **options)  # type: ignore[arg-type]
    task = asyncio.create_task(informer.run())
    async with asyncio.timeout(5):
        await script.quiet.wait()
    task.cancel()
    return informer


def listed(revision: int, *names: str) -> Listed:
    return Listed(tuple(body(n, 1) for n in names), revision)


async def test_a_kubernetes_that_is_older_than_what_was_seen_is_listed_anew() -> None:
    """A real one that was restored would keep silent on a watch from a revision that it does not have yet."""
    script = Script([listed(2_000, "a"), listed(900, "b")], [Unavailable("away")])
    informer = await played(script)
    assert script.asked == [2_000, 900]
    assert informer.revision == 900 and set(informer.objects) == {("d", "b")}


async def test_it_watches_on_from_what_it_has_seen() -> None:
    added = Event("ADDED", body("b", 7))
    script = Script([listed(5, "a")], [[added], [Event("BOOKMARK", body("", 9))]])
    informer = await played(script)
    assert script.asked == [5, 7, 9]
    assert informer.revision == 9 and set(informer.objects) == {("d", "a"), ("d", "b")}


async def test_gone_leads_to_a_list_and_the_old_set_stays_until_then() -> None:
    seen: list[int] = []
    script = Script([listed(5, "a"), Unavailable("busy"), listed(20, "b")], [Gone("old")])
    informer = Informer(script, DEVICES, json.loads, settings=QUICK, on_revision=lambda: seen.append(informer.revision))  # type: ignore[arg-type]
    task = asyncio.create_task(informer.run())
    async with asyncio.timeout(5):
        await script.quiet.wait()
    task.cancel()
    assert seen == [5, 20] and set(informer.objects) == {("d", "b")}


async def test_a_list_tells_only_of_what_differs() -> None:
    told: list[tuple[Any, bool, bool]] = []
    script = Script([listed(5, "a", "b"), listed(8, "b", "c")], [Gone("old")])
    await played(script, on_change=lambda key, old, new: told.append((key[1], old is None, new is None)))
    assert told == [("a", True, False), ("b", True, False), ("a", False, True), ("c", True, False)]


async def test_a_handler_sees_the_set_and_the_revision_of_its_change() -> None:
    seen: list[tuple[int, int]] = []
    script = Script([listed(5)], [[Event("ADDED", body("a", 6)), Event("DELETED", body("a", 7))]])
    informer = Informer(
        script,  # type: ignore[arg-type]
        DEVICES,
        json.loads,
        settings=QUICK,
        on_change=lambda *_: seen.append((informer.revision, len(informer.objects))),
    )
    task = asyncio.create_task(informer.run())
    async with asyncio.timeout(5):
        await script.quiet.wait()
    task.cancel()
    assert seen == [(6, 1), (7, 0)]


async def test_errors_are_waited_out_and_shown() -> None:
    script = Script([Unavailable("no connection"), listed(5)], [Unavailable("reset"), []])
    informer = await played(script)
    assert script.asked == [5, 5, 5]  # a watch that ends at once is an error too, not a reason to spin
    assert informer.last_error is not None and "at once" in str(informer.last_error)


@pytest.mark.parametrize(("errors", "most"), [(1, 0.2), (2, 0.4), (100, 3.0), (10_000, 3.0)])
def test_waiting_doubles_within_bounds(errors: int, most: float) -> None:
    assert all(most / 2 <= backoff(errors, InformerSettings()) <= most for _ in range(20))


async def test_after_a_long_absence_a_revision_that_is_too_old_is_listed_anew_at_once() -> None:
    """Once up to 3 s later: that Kubernetes answers was counted as one more failure of a long row."""
    away = Unavailable("away")
    away.retry_after_seconds = 0.001
    script = Script([listed(5, "a"), listed(9, "b")], [*[away] * 12, Gone("too old", 410)])
    informer = Informer(
        script,  # type: ignore[arg-type]
        DEVICES,
        json.loads,
        settings=InformerSettings(backoff_first_seconds=0.01, backoff_most_seconds=60.0),
    )
    task = asyncio.create_task(informer.run())
    async with asyncio.timeout(5):
        await script.quiet.wait()
    task.cancel()
    assert set(informer.objects) == {("d", "b")}


async def test_one_object_that_shows_a_bug_is_set_aside_and_the_others_of_its_kind_go_on() -> None:
    told, letters = list[str](), DeadLetters("devicecontroller")

    def changed(key: Any, old: Any, new: Any) -> None:
        if key[1] == "b":
            raise KeyError("a bug")
        told.append(key[1])

    def decode(raw: bytes) -> Any:
        found = json.loads(raw)
        return found["spec"] if found["metadata"]["name"] == "e" else found

    script = Script([listed(5, "a", "b", "c")], [[Event("ADDED", body("e", 6)), Event("ADDED", body("d", 7))]])
    informer = Informer(script, DEVICES, decode, settings=QUICK, on_change=changed, letters=letters)  # type: ignore[arg-type]
    task = asyncio.create_task(informer.run())
    async with asyncio.timeout(5):
        await script.quiet.wait()
    assert not task.done() and told == ["a", "c", "d"] and informer.revision == 7
    task.cancel()
    assert [letter.source for letter in letters.waiting(9)] == ["devices d/b", "devices d/e"]
    assert informer.unreadable.keys() == {("d", "e")}

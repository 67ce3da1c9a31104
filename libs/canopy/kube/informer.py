"""A kind's objects, kept up by list and watch: what the controllers read instead of asking Kubernetes each time.

The set is replaced as a whole by a list and changed by each event, and the revision moves in the same step: whoever
reads both between two awaits reads what belongs together. The revision is 0 while the set is incomplete.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from canopy.kube.api import Event, Kube, Listed
from canopy.kube.errors import Gone, KubeError, Unavailable
from canopy.kube.hooks import Said, said
from canopy.kube.resource import Resource
from canopy.runtime.letters import DeadLetters, encoded

T = TypeVar("T")
Key = tuple[str, str]
"""(namespace, name)."""
SHORTEST_WATCH_SECONDS = 0.5
NOBODY = "canopy-asks-for-the-revision"
"""A name that no object bears: a list of it is empty, and says how far Kubernetes is."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InformerSettings:
    """How an informer watches and how it waits after an error."""

    watch_seconds: int = 10
    """A watch is opened anew after this; a dead connection is noticed a few seconds later at the latest. An API server
    says how far a quiet kind has been seen 2 s before a watch ends, else once a minute: until then a replica that has
    listed later is ahead, and what the other one answers is refused at the edge for being older."""
    backoff_first_seconds: float = 0.2
    backoff_most_seconds: float = 3.0
    """Changes are seen so long after Kubernetes is back; a replica tries its few kinds that often meanwhile."""


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Head(msgspec.Struct):
    metadata: _Meta


_HEAD = msgspec.json.Decoder(_Head)


class Informer(Generic[T]):
    """All objects of a kind (in one namespace, if given), decoded by `decode`.

    `on_change(key, old, new)` is told of each difference (None: was not, is not there), `on_revision()` each time that
    the revision moved, both after `objects` and `revision` have; they may be async, and then hold up the next event.
    An object that `decode` refuses (msgspec.ValidationError) keeps its last good form and is named in `unreadable`.
    """

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        decode: Callable[[bytes], T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        on_change: Callable[[Key, T | None, T | None], Said] | None = None,
        on_revision: Callable[[], Said] | None = None,
        settings: InformerSettings | None = None,
        letters: DeadLetters | None = None,
    ) -> None:
        self._letters = letters if letters is not None else DeadLetters("")
        self._kube, self._resource, self._decode = kube, resource, decode
        self._namespace, self._labels, self._fields = namespace, label_selector, field_selector
        self._on_change, self._on_revision = on_change, on_revision
        self._settings = settings or InformerSettings()
        self._objects: dict[Key, T] = {}
        self._changed = asyncio.Condition()
        self._errors = 0
        self._must_list = True  # the set stays what it was until the new list is there
        self.revision = 0
        self._heard = time.monotonic()
        self.unreadable: dict[Key, str] = {}
        self.last_error: KubeError | None = None
        """Why the informer waits now; None while it lists or watches well."""

    @property
    def plural(self) -> str:
        return self._resource.plural

    @property
    def objects(self) -> Mapping[Key, T]:
        return MappingProxyType(self._objects)

    @property
    def synced(self) -> bool:
        """Whether the set is complete as of `revision`."""
        return self.revision > 0

    async def wait_synced(self) -> None:
        await self.wait_for(lambda: self.synced)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds; it is looked at after each step. Give it a deadline with asyncio.timeout."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def run(self) -> None:
        """List, then watch, for ever; end by cancelling. Errors of Kubernetes are waited out, others come out."""
        while True:
            try:
                if self._must_list or await self._went_back():
                    await self._list()
                await self._watch()
            except KubeError as error:
                if _asks_for_a_list(error) and not self._must_list:
                    self._must_list, self._errors = True, 0  # it is back, and answers: that is no further failure
                await self._wait_out(error)

    async def _list(self) -> None:
        listed = await self._kube.list(
            self._resource, self._namespace, label_selector=self._labels, field_selector=self._fields
        )
        self._well()
        self._must_list = False
        before, self._objects = self._objects, self._decoded(listed)
        self.revision = listed.revision
        for key in sorted(before.keys() | self._objects.keys()):
            await self._tell(key, before.get(key), self._objects.get(key))
        await self._moved()

    def _decoded(self, listed: Listed) -> dict[Key, T]:
        self.unreadable = {}
        found: dict[Key, T] = {}
        for body in listed.items:
            key, value = self._read(body)
            if value is not None:
                found[key] = value
        return found

    def _read(self, body: bytes) -> tuple[Key, T | None]:
        """An object's key and value; the last good value where this one cannot be read."""
        meta = _HEAD.decode(body).metadata
        key = (meta.namespace, meta.name)
        try:
            value = self._decode(body)
        except Exception as error:
            self._cannot_read(key, body, error)
            return key, self._objects.get(key)
        self.unreadable.pop(key, None)
        return key, value

    def _cannot_read(self, key: Key, body: bytes, error: Exception) -> None:
        """What is not as it should be is said; what our own reading did not expect is set aside besides."""
        _log.warning("%s %s/%s cannot be read: %r", self._resource.plural, *key, error)
        self.unreadable[key] = str(error)
        if not isinstance(error, msgspec.DecodeError | ValueError):
            self._letters.failed(self._named(key), error, body)

    def _named(self, key: Key) -> str:
        return f"{self._resource.plural} {key[0]}/{key[1]}"

    async def _went_back(self) -> bool:
        """Kubernetes is older than what was seen of it: it was restored. It would keep a watch from then on silent."""
        listed = await self._kube.list(self._resource, self._namespace, field_selector=f"metadata.name={NOBODY}")
        self._heard = time.monotonic()
        return listed.revision < self.revision

    async def _watch(self) -> None:
        began, heard = time.monotonic(), self.revision
        await self._follow()
        if self.revision == heard and time.monotonic() - began < SHORTEST_WATCH_SECONDS:
            raise Unavailable("the watch was closed at once")

    async def _follow(self) -> None:
        async with self._kube.watch(
            self._resource,
            self._namespace,
            revision=self.revision,
            timeout_seconds=self._settings.watch_seconds,
            label_selector=self._labels,
            field_selector=self._fields,
        ) as events:
            async for event in events:
                self._well()
                await self._apply(event)

    async def _apply(self, event: Event) -> None:
        revision = int(_HEAD.decode(event.object).metadata.resource_version)
        if event.type == "BOOKMARK":
            self.revision = revision
            return await self._moved()
        key, new = self._taken(event)
        old = self._objects.pop(key, None)
        if new is not None:
            self._objects[key] = new
        self.revision = revision
        await self._tell(key, old, new)
        return await self._moved()

    def _taken(self, event: Event) -> tuple[Key, T | None]:
        if event.type != "DELETED":
            return self._read(event.object)
        meta = _HEAD.decode(event.object).metadata
        self.unreadable.pop((meta.namespace, meta.name), None)
        return (meta.namespace, meta.name), None

    async def _tell(self, key: Key, old: T | None, new: T | None) -> None:
        """One object that makes the hook raise is set aside: the others of its kind go on."""
        if self._on_change is None or old == new:
            return
        try:
            await said(self._on_change(key, old, new))
        except Exception as bug:
            self._letters.failed(self._named(key), bug, encoded(new))

    async def _moved(self) -> None:
        if self._on_revision is not None:
            await said(self._on_revision())
        async with self._changed:
            self._changed.notify_all()

    def _well(self) -> None:
        self._errors, self.last_error = 0, None
        self._heard = time.monotonic()

    @property
    def age_seconds(self) -> float:
        """Since Kubernetes last said anything of this kind: a list, a change, a bookmark."""
        return time.monotonic() - self._heard

    async def _wait_out(self, error: KubeError) -> None:
        self.last_error = error
        self._errors += 1
        _log.warning("%s: %s", self._resource.plural, error)
        asked = error.retry_after_seconds if isinstance(error, Unavailable) else None
        await asyncio.sleep(asked or backoff(self._errors, self._settings))


def _asks_for_a_list(error: KubeError) -> bool:
    """The revision is too old, or (Kubernetes was restored to an older state) not there yet."""
    return isinstance(error, Gone) or any(c.reason == "ResourceVersionTooLarge" for c in error.causes)


def backoff(errors: int, settings: InformerSettings) -> float:
    """Seconds to wait after the nth error in a row: doubled each time, bounded, with jitter of half."""
    most = min(settings.backoff_first_seconds * 2.0 ** min(errors - 1, 30), settings.backoff_most_seconds)
    return most * random.uniform(0.5, 1.0)  # noqa: S311


def ages(informers: Iterable[Informer[Any]]) -> dict[str, float]:
    """The age of each by the plural of its kind."""
    return {i.plural: i.age_seconds for i in informers}


def failing(informers: Iterable[Informer[Any]]) -> str:
    """Why Kubernetes cannot be watched now, for people; "ok" where it can."""
    return next((str(i.last_error) or "it does not answer" for i in informers if i.last_error is not None), "ok")

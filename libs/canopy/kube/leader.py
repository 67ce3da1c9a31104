"""Leader election on a Lease: of all replicas that run a `Leader` on the same name at most one `is_leader`.

Our own rather than kubernetes.aio.leaderelection, because DeviceController needs the Lease's resourceVersion at each
renewal and renewals out of turn (RULES 10), a release when it stops, and monotonic time.

Safety rests on clocks that run equally fast, not on clocks that agree: a replica takes a Lease over only after it has
seen it unchanged for the whole duration by its own clock, and a leader that could not renew within the (shorter)
deadline stops being one by itself.
"""

import asyncio
import logging
import random
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from canopy.contracts.times import micro_time
from canopy.kube.api import Kube
from canopy.kube.errors import Conflict, KubeError, NotFound
from canopy.kube.hooks import Said, said
from canopy.kube.resource import LEASES

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaderSettings:
    """Times of an election. The deadline must be shorter than the duration, the retry shorter than the deadline."""

    lease_seconds: float = 15.0
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0

    @classmethod
    def of(cls, lease_seconds: float) -> "LeaderSettings":
        """The usual parts of a Lease of that duration."""
        return cls(lease_seconds, lease_seconds * 2 / 3, lease_seconds * 2 / 15)

    def __post_init__(self) -> None:
        if not 0 < self.retry_seconds < self.renew_deadline_seconds < self.lease_seconds:
            raise ValueError("a leader's times must be: retry_seconds < renew_deadline_seconds < lease_seconds")


class _Meta(msgspec.Struct, rename="camel", omit_defaults=True):
    name: str
    namespace: str
    resource_version: str = ""
    uid: str = ""


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class _Lease(msgspec.Struct, rename="camel"):
    metadata: _Meta
    spec: _Spec
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"


_LEASE = msgspec.json.Decoder(_Lease)


def identity() -> str:
    """A name for this replica that no other has."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


class Leader:
    """One replica's part in the election on the Lease `namespace/name`; `identity` must differ from all others'.

    `on_started()` when this replica becomes leader, `on_stopped()` when it is one no longer, `on_renewed(revision)`
    after each renewal with the Lease's resourceVersion; all may be async, and must be quick: they hold up renewals.
    `run` takes part until cancelled, and then gives the Lease back so that another replica need not wait.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        settings: LeaderSettings | None = None,
        on_started: Callable[[], Said] | None = None,
        on_stopped: Callable[[], Said] | None = None,
        on_renewed: Callable[[int], Said] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube, self._namespace, self._name, self.identity = kube, namespace, name, identity
        self._settings = settings or LeaderSettings()
        self._on_started, self._on_stopped, self._on_renewed = on_started, on_stopped, on_renewed
        self._monotonic = monotonic
        self._lease: _Lease | None = None
        self._seen: tuple[str, float] = ("", 0.0)  # a foreign Lease's resourceVersion, and since when it is that
        self._renewed = 0.0
        self._turn = asyncio.Lock()
        self._leads = asyncio.Event()
        self.revision = 0
        """The Lease's resourceVersion as this replica last wrote or read it."""
        self.uid = ""
        """The Lease's uid; another one means that someone deleted and made it anew."""

    @property
    def is_leader(self) -> bool:
        """Also false when the deadline has passed and `run` has not noticed yet."""
        return self._leads.is_set() and self._left() > 0

    async def wait(self) -> None:
        """Return when this replica is the leader."""
        await self._leads.wait()

    async def renew_now(self) -> int:
        """Renew out of turn; gives the Lease's new resourceVersion. Raises KubeError, Conflict if no longer leader."""
        async with self._turn:
            if not self.is_leader:
                raise Conflict(f"{self.identity} does not lead {self._namespace}/{self._name}")
            await self._write(self._held())
        await said(self._on_renewed(self.revision) if self._on_renewed else None)
        return self.revision

    async def run(self) -> None:
        """Take part until cancelled. Errors of Kubernetes are waited out, others come out."""
        try:
            while True:
                await self._acquire()
                await self._lead()
        finally:
            await self._give_back()

    async def _acquire(self) -> None:
        while not await self._try():  # noqa: ASYNC110
            await asyncio.sleep(self._settings.retry_seconds * random.uniform(0.8, 1.2))  # noqa: S311

    async def _lead(self) -> None:
        self._leads.set()
        try:
            await said(self._on_started() if self._on_started else None)
            while self._left() > 0:
                await asyncio.sleep(min(self._settings.retry_seconds, max(self._left(), 0)))
                async with self._turn:
                    await self._try_in_time()
        finally:
            self._leads.clear()
            await said(self._on_stopped() if self._on_stopped else None)

    async def _try_in_time(self) -> None:
        """A renewal that hangs must not outlive the deadline."""
        try:
            async with asyncio.timeout(max(self._left(), 0)):
                if not await self._try():
                    _log.warning("%s could not renew %s/%s", self.identity, self._namespace, self._name)
        except TimeoutError:
            _log.warning("%s: renewing %s/%s took too long", self.identity, self._namespace, self._name)

    def _left(self) -> float:
        """Seconds until this replica may no longer think that it leads."""
        return self._renewed + self._settings.renew_deadline_seconds - self._monotonic()

    # --- one try ------------------------------------------------------------------------------------------------------
    async def _try(self) -> bool:
        """Create, take over or renew the Lease; whether it is ours now."""
        try:
            if self._lease is None or not self._leads.is_set():
                self._lease = await self._read()
            if self._lease is not None and not self._free(self._lease):
                self._lost()
                return False
            await self._write(self._held())
        except (Conflict, NotFound):
            return False
        except KubeError as error:
            _log.warning("the Lease %s/%s: %s", self._namespace, self._name, error)
            return False
        await said(self._on_renewed(self.revision) if self._on_renewed else None)
        return True

    def _lost(self) -> None:
        """Someone else holds it: whatever the deadline says, this replica leads no more."""
        self._renewed = self._monotonic() - self._settings.renew_deadline_seconds

    async def _read(self) -> _Lease | None:
        try:
            return self._noted(await self._kube.get(LEASES, self._namespace, self._name))
        except NotFound:
            return None

    def _noted(self, body: bytes) -> _Lease:
        lease = _LEASE.decode(body)
        self.revision, self.uid = int(lease.metadata.resource_version), lease.metadata.uid
        return lease

    def _free(self, lease: _Lease) -> bool:
        """Ours, given back, or unchanged for its whole duration while we looked."""
        if lease.spec.holder_identity in (None, "", self.identity):
            return True
        now, revision = self._monotonic(), lease.metadata.resource_version
        if self._seen[0] != revision:
            self._seen = (revision, now)
        return now - self._seen[1] > (lease.spec.lease_duration_seconds or self._settings.lease_seconds)

    def _held(self) -> _Lease:
        """The Lease as we want to write it."""
        now = micro_time(time.time_ns() // 1_000_000)
        old = self._lease.spec if self._lease else _Spec()
        ours = old.holder_identity == self.identity
        changes = (old.lease_transitions or 0) + (0 if ours or self._lease is None else 1)
        duration = max(1, round(self._settings.lease_seconds))
        spec = _Spec(self.identity, duration, old.acquire_time if ours else now, now, changes)
        return _Lease(self._lease.metadata if self._lease else _Meta(self._name, self._namespace), spec)

    async def _write(self, lease: _Lease) -> None:
        """Counted from before the call: Kubernetes may have taken it at any moment since."""
        began, body = self._monotonic(), msgspec.json.encode(lease)
        self._lease = None  # unless this goes well, read before the next try
        if lease.metadata.resource_version:
            written = await self._kube.update(LEASES, self._namespace, self._name, body)
        else:
            written = await self._kube.create(LEASES, self._namespace, body)
        self._lease = self._noted(written)
        self._renewed = began

    async def _give_back(self) -> None:
        lease, self._lease = self._lease, None
        self._renewed -= self._settings.renew_deadline_seconds
        if lease is None or lease.spec.holder_identity != self.identity:
            return
        spec = _Spec(None, 1, None, micro_time(time.time_ns() // 1_000_000), lease.spec.lease_transitions)
        body = msgspec.json.encode(_Lease(lease.metadata, spec))
        try:
            async with asyncio.timeout(self._settings.retry_seconds):
                await asyncio.shield(self._kube.update(LEASES, self._namespace, self._name, body))
        except (KubeError, TimeoutError):
            _log.info("the Lease %s/%s was not given back; it runs out", self._namespace, self._name)

"""What is decided at the admin socket: who gets which credential, and whose are worth nothing from now on. Audited.

`admin` brings the asks. Keys never come here: who asks makes the key and sends a certificate request.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from canopy.contracts import admin as words
from canopy.contracts.admin import AdminAnswer, AdminAsk
from canopy.contracts.subject import BadToken, check_token
from canopy.contracts.wire import Name
from canopy.edgeidentity import device_tokens
from canopy.edgeidentity.admin_peer import Peer
from canopy.edgeidentity.provision_book import Book, BookFull
from canopy.identity import ids
from canopy.identity.authority import AuthorityAway, AuthorityRefused, Minted
from canopy.identity.ids import BadId, SpiffeId
from canopy.identity.svid import BadSvid, Bundle, certificates
from canopy.runtime.audit import SAME_SECONDS, AuditLog
from canopy.runtime.clock import Clock

log = logging.getLogger("canopy.edgeidentity")
DeviceAsk = words.ProvisionAsk | words.DeviceTokenAsk | words.DeviceRevokeAsk
WHAT = {
    words.WhoAsk: "provision",
    words.ProvisionAsk: "provision",
    words.DeviceTokenAsk: "token",
    words.DeviceRevokeAsk: "revocation",
}
"""How the audit calls it."""
DAY_SECONDS = 86_400.0
LATER = "the leaf is not connected, or slow to read it: it holds from when the leaf is back"


class Mint(Protocol):
    """What is asked of the node's own authority."""

    async def mint(self, csr_pem: bytes, id: SpiffeId, *, ttl_seconds: float, dns: tuple[str, ...] = ()) -> Minted: ...

    async def bundle(self) -> Bundle: ...


class Devices(Protocol):
    """What is asked of `roster.Roster`."""

    @property
    def listed(self) -> frozenset[Name]: ...

    def revoke(self, name: Name) -> None: ...

    def restore(self, name: Name) -> None: ...


@dataclass(frozen=True, slots=True)
class Places:
    """Where devices speak MQTT over TLS: the gateway, with a certificate; the front, with a password (port 0: off)."""

    host: str
    port: int
    front_host: str = ""
    front_port: int = 0


class No(Exception):
    """The answer is no, in words."""

    def __init__(self, text: str, verdict: str = words.REFUSED) -> None:
        super().__init__(text)
        self.verdict = verdict


class Desk:
    """`handle` answers one ask."""

    def __init__(
        self,
        td: str,
        node: str,
        authority: Mint,
        devices: Devices,
        book: Book,
        audit: AuditLog,
        clock: Clock,
        places: Places,
        changed: Callable[[Name | None], None],
        settled: Callable[[], Awaitable[bool]],
    ) -> None:
        """`changed` hears of a device whose identity, password or rights are others now (None: of an app); `settled`
        waits, not for long, until the leaf knows it."""
        self._td, self._node, self._authority, self._devices, self._book = td, node, authority, devices, book
        self._audit, self._clock, self._places = audit, clock, places
        self._changed, self._settled = changed, settled
        self._one = asyncio.Lock()

    async def handle(self, ask: AdminAsk, peer: Peer) -> AdminAnswer:
        """One at a time: a revocation is never overtaken."""
        async with self._one:
            try:
                return await self._answered(ask, peer)
            except No as e:
                return AdminAnswer(verdict=e.verdict, reason=str(e))
            except AuthorityAway as e:
                return AdminAnswer(verdict=words.AWAY, reason=str(e))
            except (AuthorityRefused, BookFull, BadId, BadToken) as e:
                return AdminAnswer(verdict=words.REFUSED, reason=str(e))
            except OSError as e:
                log.exception("the admin socket")
                return AdminAnswer(verdict=words.AWAY, reason=f"edgeidentity cannot write: {e}")

    async def _answered(self, ask: AdminAsk, peer: Peer) -> AdminAnswer:
        match ask:
            case words.WhoAsk():
                return AdminAnswer(id=str(self._named(ask, peer)))
            case words.BundleAsk():
                return AdminAnswer(bundle=(await self._authority.bundle()).pem.decode())
            case words.AppAsk():
                return await self._app(ask, peer)
            case words.StrangerAsk():
                self._audit.record("workload", outcome="refused", who=ask.workload, reason=ask.reason)
                return AdminAnswer()
            case _:
                return await self._of_device(ask, peer)

    def _named(self, ask: words.WhoAsk, peer: Peer) -> SpiffeId:
        """Who may have none does not get as far as asking for it: that is its refusal."""
        if ask.app:
            return ids.app(self._td, self._node, ask.app)
        try:
            return self._book.identity(self._here((ask.namespace, ask.name)))
        except (No, BadId) as e:
            self._record(ask, peer, outcome="refused", reason=str(e))
            raise

    # --- devices ------------------------------------------------------------------------------------------------------
    async def _of_device(self, ask: DeviceAsk, peer: Peer) -> AdminAnswer:
        """Whatever comes of it is in the audit before it is answered."""
        try:
            answer = await self._given(ask, (ask.namespace, ask.name), peer)
        except (No, AuthorityAway, AuthorityRefused, BookFull, BadId, BadToken) as e:
            self._record(ask, peer, outcome="refused", reason=str(e))
            raise
        reason = ask.reason if isinstance(ask, words.DeviceRevokeAsk) else ""
        self._record(ask, peer, reason=reason, serial=_serial(answer), not_after=answer.not_after)
        self._changed((ask.namespace, ask.name))
        return answer if await self._settled() else replace(answer, reason=LATER)

    async def _given(self, ask: DeviceAsk, name: Name, peer: Peer) -> AdminAnswer:
        match ask:
            case words.ProvisionAsk():
                return await self._provision(ask, self._here(name))
            case words.DeviceTokenAsk():
                return await self._token(self._here(name), ask.ttl_seconds, str(peer))
            case _:
                return await self._revoke(name)

    async def _provision(self, ask: words.ProvisionAsk, name: Name) -> AdminAnswer:
        id = self._book.identity(name)
        minted = await self._authority.mint(ask.csr.encode(), id, ttl_seconds=_ttl(ask.ttl_seconds))
        answer = await self._certified(id, minted)
        await asyncio.to_thread(self._book.provisioned, name, self._clock.now_ms(), answer.not_after, _serial(answer))
        self._devices.restore(name)
        return replace(answer, host=self._places.host, port=self._places.port)

    async def _token(self, name: Name, ttl_seconds: float, by: str) -> AdminAnswer:
        if not self._places.front_port:
            raise No(
                "no front listens for devices with a password: set CANOPY_EDGEIDENTITY_FRONT_LISTEN to host:port, or "
                f"give the device a certificate (canopy device provision {'/'.join(name)})"
            )
        now = self._clock.now_ms()
        until = now + round(_ttl(ttl_seconds) * 1000)
        token, kept = device_tokens.made(now, until, by)
        await asyncio.to_thread(self._book.token, name, kept)
        self._devices.restore(name)
        bundle = (await self._authority.bundle()).pem.decode()
        places = self._places
        return AdminAnswer(
            id=str(self._book.identity(name)), token=token, not_after=until, bundle=bundle,
            host=places.front_host, port=places.front_port,
        )  # fmt: skip

    async def _revoke(self, name: Name) -> AdminAnswer:
        ids.device(self._td, self._node, *name)
        if name not in self._devices.listed and not self._book.knows(name):
            raise self._not_here(name)
        id = str(self._book.identity(name))
        await asyncio.to_thread(self._book.revoked, name, self._clock.now_ms())
        self._devices.revoke(name)
        return AdminAnswer(id=id)

    def _here(self, name: Name) -> Name:
        """The device, if it is one of this node. Raises No, BadId."""
        ids.device(self._td, self._node, *name)
        if name not in self._devices.listed:
            raise self._not_here(name)
        return name

    def _not_here(self, name: Name) -> No:
        device, count = "/".join(name), len(self._devices.listed)
        return No(
            f"{device} is not a device of the node {self._node} (it has {count}): set spec.nodeName of the Device to "
            f"{self._node}, wait until it is there, and try again",
            words.NOT_FOUND,
        )

    # --- workloads ----------------------------------------------------------------------------------------------------
    async def _app(self, ask: words.AppAsk, peer: Peer) -> AdminAnswer:
        check_token("name", ask.app)
        id = ids.app(self._td, self._node, ask.app)
        minted = await self._authority.mint(ask.csr.encode(), id, ttl_seconds=_ttl(ask.ttl_seconds))
        answer = await self._certified(id, minted)
        await asyncio.to_thread(self._book.app, ask.app, self._clock.now_ms(), answer.not_after, _serial(answer))
        self._changed(None)
        self._audit.record(
            "workload", who=str(id), reason=ask.workload, where=_where(peer), serial=_serial(answer),
            not_after=answer.not_after, same_seconds=DAY_SECONDS,
        )  # fmt: skip
        await self._settled()  # a new one may come to the leaf as soon as it is answered
        return answer

    async def _certified(self, id: SpiffeId, minted: Minted) -> AdminAnswer:
        bundle = await self._authority.bundle()
        chain, until = minted.chain_pem.decode(), round(minted.not_after * 1000)
        return AdminAnswer(id=str(id), chain=chain, bundle=bundle.pem.decode(), not_after=until)

    def _record(
        self,
        ask: DeviceAsk | words.WhoAsk,
        peer: Peer,
        outcome: str = "ok",
        reason: str = "",
        serial: str = "",
        not_after: int = 0,
    ) -> None:
        by = "" if isinstance(ask, words.WhoAsk) else ask.by
        who = f"{peer} ({by})" if by not in ("", str(peer)) else str(peer)
        self._audit.record(
            WHAT[type(ask)], outcome=outcome, who=who, subject=f"{ask.namespace}/{ask.name}", reason=reason,
            where=_where(peer), serial=serial, not_after=not_after, same_seconds=0 if outcome == "ok" else SAME_SECONDS,
        )  # fmt: skip


def _ttl(seconds: float) -> float:
    if not words.SHORTEST_TTL_SECONDS <= seconds <= words.LONGEST_TTL_SECONDS:
        raise No(f"a ttl of {seconds:g} s: should be {words.SHORTEST_TTL_SECONDS} s to {words.LONGEST_TTL_SECONDS} s")
    return seconds


def _serial(answer: AdminAnswer) -> str:
    try:
        return f"{certificates(answer.chain.encode())[0].serial_number:x}" if answer.chain else ""
    except BadSvid:
        return ""


def _where(peer: Peer) -> str:
    return f"pid {peer.pid} uid {peer.uid} gid {peer.gid}"

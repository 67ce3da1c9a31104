"""The SVIDs of apps, kept good while somebody asks for them: minted by edgeidentity, over its admin socket, for keys
that are made here. `workload_server` calls it.
"""

import asyncio
import logging
from pathlib import Path

from canopy.contracts import admin as words
from canopy.contracts.admin import AdminAnswer, AdminAsk
from canopy.identity import ids
from canopy.identity.admin import AdminAway, ask
from canopy.identity.authority import AuthorityAway, AuthorityRefused, Entry, Minted
from canopy.identity.ids import SpiffeId
from canopy.identity.sources import AuthoritySource, Identity
from canopy.identity.svid import Bundle
from canopy.identity.workload_rules import Rule

log = logging.getLogger("canopy.identity.workload_server")
RETRY_SECONDS = 2.0


class Desk:
    """edgeidentity's admin socket as an Authority (`authority`): it mints for apps only."""

    def __init__(self, socket: Path, workload: str = "") -> None:
        self._socket, self._workload = socket, workload
        self.says = f"edgeidentity at {socket}"

    async def named(self, app: str) -> SpiffeId:
        return ids.parse((await self._ask(words.WhoAsk(app=app))).id)

    async def mint(self, csr_pem: bytes, id: SpiffeId, *, ttl_seconds: float, dns: tuple[str, ...] = ()) -> Minted:
        app = id.segments[-1]
        asked = words.AppAsk(app=app, csr=csr_pem.decode(), ttl_seconds=ttl_seconds, workload=self._workload)
        answer = await self._ask(asked)
        return Minted(answer.chain.encode(), answer.not_after / 1000)

    async def bundle(self) -> Bundle:
        return Bundle.read((await self._ask(words.BundleAsk())).bundle.encode())

    async def refused(self, workload: str, reason: str) -> None:
        """Into the audit. Raises AuthorityAway, AuthorityRefused."""
        await self._ask(words.StrangerAsk(workload=workload, reason=reason))

    async def entries(self) -> tuple[Entry, ...]:
        raise AuthorityRefused("the rules are in a file")

    async def put(self, entry: Entry) -> None:
        raise AuthorityRefused("the rules are in a file")

    async def remove(self, id: SpiffeId) -> None:
        raise AuthorityRefused("the rules are in a file")

    async def close(self) -> None:
        """Nothing is held open."""

    async def _ask(self, question: AdminAsk) -> AdminAnswer:
        try:
            answer = await ask(self._socket, question)
        except AdminAway as e:
            raise AuthorityAway(str(e)) from None
        if answer.verdict == words.AWAY:
            raise AuthorityAway(answer.reason)
        if answer.verdict != words.OK:
            raise AuthorityRefused(answer.reason)
        return answer


class App:
    """One app's identity. `identity` waits for the first one; `changed` is set anew at each change."""

    def __init__(self, socket: Path, rule: Rule) -> None:
        self._desk, self._rule = Desk(socket, str(rule)), rule
        self.now: Identity | None = None
        self.changed = asyncio.Event()
        self._task = asyncio.create_task(self._keep())

    @property
    def over(self) -> bool:
        """It ended by a fault, and is to be made anew."""
        return self._task.done()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                id = await self._desk.named(self._rule.app)
                break
            except (AuthorityAway, AuthorityRefused) as e:
                log.warning("no identity for %s yet: %s", self._rule.app, e)
                await asyncio.sleep(RETRY_SECONDS)
        source = AuthoritySource(self._desk, id, ttl_seconds=self._rule.ttl_seconds)
        self._give(await source.first())
        async for identity in source.changes():
            self._give(identity)

    def _give(self, identity: Identity) -> None:
        self.now = identity
        told, self.changed = self.changed, asyncio.Event()
        told.set()


class Apps:
    """Those that were asked for, one of each; at most as many as there are rules."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._apps: dict[Rule, App] = {}

    def of(self, rule: Rule) -> App:
        found = self._apps.get(rule)
        if found is None or found.over:
            found = self._apps[rule] = App(self._socket, rule)
        return found

    async def only(self, rules: tuple[Rule, ...]) -> None:
        """Let go of those of rules that are no more."""
        for rule in [rule for rule in self._apps if rule not in rules]:
            await self._apps.pop(rule).close()

    async def close(self) -> None:
        await self.only(())

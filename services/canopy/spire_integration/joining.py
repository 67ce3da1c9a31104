"""The shell of joining: loads what is known, decides, mints, stores, answers. The endpoint and the bus call it.

A certificate is minted before the token is used and handed out only after both writes, so of two that use one token at
once the compare-and-set lets one win, and a node that is revoked meanwhile gets nothing.
"""

import logging
from collections.abc import Callable
from typing import Any

from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.contracts.catalogue import NODES, TOKENS
from canopy.contracts.identity_wire import JoinToken, NodeIdentity, TokenAnswer, TokenAsk
from canopy.contracts.subject import BadToken, check_token
from canopy.identity import ids
from canopy.identity.authority import Authority, AuthorityAway, AuthorityRefused, Minted
from canopy.identity.joining_words import BundleAnswer, JoinAsk, Joined, NonceAnswer, RenewAsk, Token, renew_bytes
from canopy.identity.joinroot import JoinRoot
from canopy.identity.svid import Bundle, Csr, certificates
from canopy.runtime.clock import Clock
from canopy.spire_integration import joining_core as core
from canopy.spire_integration import tokens
from canopy.spire_integration.joining_limits import Limits
from canopy.spire_integration.joining_nonces import SECONDS, Nonces, TooMany
from canopy.spire_integration.joining_proofs import Rules, csr_of, maker_of, signed, words_of
from canopy.spire_integration.joining_shelf import Audit, Kept, Shelf
from canopy.spire_integration.tokens import Refused

log = logging.getLogger("canopy.spire_integration")
BUNDLE_SECONDS = 5.0
"""How long the roots are told without asking the authority again."""
REFUSALS_PER_SECOND, REFUSALS_BURST = 2.0, 50.0
"""Refusals that are audited: each is a write to a disk, and strangers can make many. The metric counts all."""
AWAY = (AskFailed, StreamError, TimeoutError, AuthorityAway, TooMany)
"""What passes: try again later."""


class Joining:
    """One replica's. Raises Refused, and what is in AWAY; each decision is audited."""

    def __init__(
        self,
        rules: Rules,
        root: JoinRoot,
        authority: Authority,
        streams: tuple[Kept, Kept],
        audit: Audit,
        clock: Clock,
        url: Callable[[], str] = lambda: "",
        hub: str = "",
    ) -> None:
        """`streams` are NODES and TOKENS; `url` and `hub` are what tokens say."""
        self._rules, self._root, self._authority = rules, root, authority
        self._nodes: Shelf[NodeIdentity] = Shelf(streams[0], NODES, "node", NodeIdentity)
        self._tokens: Shelf[JoinToken] = Shelf(streams[1], TOKENS, "id", JoinToken)
        self._audit, self._clock, self._url, self._hub = audit, clock, url, hub
        self._nonces = Nonces(root.secret(b"nonces"))
        self._bundle: tuple[Bundle, float] | None = None
        self._refusals = Limits(REFUSALS_PER_SECOND, REFUSALS_BURST, 1)

    # --- for operators, over the bus ----------------------------------------------------------------------------------
    async def token(self, ask: TokenAsk, _: Any = None) -> TokenAnswer:
        try:
            check_token("node", ask.node)
            if (refused := core.revoked(await self._nodes.read(ask.node), ask.node)) is not None:
                return TokenAnswer(verdict="invalid", reason=str(refused))
            made = tokens.make(ask.node, ask.ttl_seconds, ask.by, self._clock.now_ms())
            await self._tokens.change(made.record.id, lambda _: made.record)
        except (BadToken, ValueError) as e:
            return TokenAnswer(verdict="invalid", reason=str(e))
        except AWAY as e:
            return TokenAnswer(verdict="busy", reason=str(e), retry_after_seconds=1.0)
        self._audit("token", who=ask.by, subject=ask.node, not_after=made.record.expires_at)
        token = Token(ask.node, made.record.id, made.secret, self._root.fingerprint, self._url(), self._hub)
        return TokenAnswer(token=token.text, expires_at=made.record.expires_at)

    # --- for nodes, at the endpoint -----------------------------------------------------------------------------------
    @property
    def root_pem(self) -> bytes:
        return self._root.certificate_pem

    async def bundle(self) -> BundleAnswer:
        """The roots now; while the authority is away those that it said last."""
        now = self._clock.monotonic()
        if self._bundle is None or now - self._bundle[1] > BUNDLE_SECONDS:
            try:
                self._bundle = await self._authority.bundle(), now
            except AuthorityAway:
                if self._bundle is None:
                    raise
        found = self._bundle[0]
        return BundleAnswer(trust_domain=found.trust_domain, roots=[root.decode() for root in found.roots_pem])

    def nonce(self) -> NonceAnswer:
        return NonceAnswer(nonce=self._nonces.make(self._clock.now_ms()), seconds=float(SECONDS))

    async def join(self, ask: JoinAsk, where: str) -> Joined:
        """`where` is the address that asks."""
        try:
            csr = csr_of(self._rules.trust_domain, ask.node, ask.csr)
            by = await self._may(ask, words_of(ask), where)
            return await self._joined(ask, csr, by, where)
        except Refused as refused:
            self._refused("join", ask.node, refused, where)
            raise

    async def renew(self, ask: RenewAsk, where: str) -> Joined:
        try:
            csr = csr_of(self._rules.trust_domain, ask.node, ask.csr)
            self._nonces.check(ask.nonce, self._clock.now_ms())
            words = renew_bytes(ask.node, ask.nonce, ask.csr)
            renewed = self._renewing(ask, words)
            renewed(await self._nodes.read(ask.node))
            self._nonces.spend(ask.nonce, self._clock.now_ms())
            minted = await self._mint(ask.csr, csr)
            return await self._handed_out("renewal", ask.node, minted, renewed, where)
        except Refused as refused:
            self._refused("renewal", ask.node, refused, where)
            raise

    # --- steps --------------------------------------------------------------------------------------------------------
    def _renewing(self, ask: RenewAsk, words: bytes) -> Callable[[NodeIdentity | None], NodeIdentity]:
        def renewed(known: NodeIdentity | None) -> NodeIdentity:
            proven = known is not None and signed(known.public_key, ask.signature, words)
            return core.renewable(known, ask.node, proven, self._rules.grace_seconds * 1000, self._clock.now_ms())

        return renewed

    async def _may(self, ask: JoinAsk, words: bytes, where: str) -> str:
        """By what the machine may join. Raises Refused."""
        if ask.token_id:
            tokens.use(await self._token(ask.token_id), *self._user(ask, where))
            return f"token {ask.token_id}"
        now = self._clock.now_ms()
        self._nonces.check(ask.nonce, now)
        by = maker_of(self._rules, ask, words, now / 1000)
        self._nonces.spend(ask.nonce, now)
        return by

    async def _joined(self, ask: JoinAsk, csr: Csr, by: str, where: str) -> Joined:
        def joined(known: NodeIdentity | None) -> NodeIdentity:
            return core.joined(known, ask.node, ask.public_key, by, self._clock.now_ms())

        joined(await self._nodes.read(ask.node))
        minted = await self._mint(ask.csr, csr)
        if ask.token_id:
            await self._tokens.change(ask.token_id, lambda known: tokens.use(known, *self._user(ask, where)))
        return await self._handed_out("join", ask.node, minted, joined, where, by)

    def _user(self, ask: JoinAsk, where: str) -> tuple[str, str, str, int]:
        return ask.secret, ask.node, tokens.machine(where, ask.public_key), self._clock.now_ms()

    async def _token(self, id: str) -> JoinToken | None:
        try:
            return await self._tokens.read(id)
        except BadToken:
            return None

    async def _mint(self, pem: str, csr: Csr) -> Minted:
        try:
            return await self._authority.mint(pem.encode(), csr.id, ttl_seconds=self._rules.ttl_seconds)
        except AuthorityRefused as e:
            raise Refused(502, "authority", f"the authority refuses: {e}") from None

    async def _handed_out(
        self,
        what: str,
        node: str,
        minted: Minted,
        decide: Callable[[NodeIdentity | None], NodeIdentity],
        where: str,
        by: str = "",
    ) -> Joined:
        """Write who has what, then say it."""
        serial, not_after = f"{certificates(minted.chain_pem)[0].serial_number:x}", round(minted.not_after * 1000)
        await self._nodes.change(node, lambda known: core.minted(decide(known), not_after, serial))
        who = str(ids.node(self._rules.trust_domain, node))
        self._audit(what, who=who, reason=by, where=where, serial=serial, not_after=not_after)
        bundle = await self.bundle()
        return Joined(
            chain=minted.chain_pem.decode(),
            trust_domain=bundle.trust_domain,
            roots=bundle.roots,
            not_after=not_after,
            grace_seconds=float(self._rules.grace_seconds),
        )

    def _refused(self, what: str, node: str, refused: Refused, where: str) -> None:
        log.info("%s refused", what, extra={"node": node[:253], "why": refused.error, "where": where})
        if not self._refusals.take("", self._clock.monotonic()):
            self._audit(what, outcome="refused", who=node[:253], reason=f"{refused.error}: {refused}", where=where)

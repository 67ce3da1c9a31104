"""A machine becomes a node, and stays it: joining by a token or a maker's certificate, and the Source that renews.

`canopy join` calls `join`; edgeidentity lives from a JoinSource. The bundle is asked for first each time, under the
join root, so a node that was away for longer than the fleet's authority lives comes back by itself.
"""

import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from canopy.identity import ids
from canopy.identity import joining_words as words
from canopy.identity.chains import Untrusted, verify_chain
from canopy.identity.identity import Identity
from canopy.identity.ids import BadId
from canopy.identity.joining_http import JoinRefused, NotTheEndpoint, Talk, Unreachable, root_of, talk_to_any
from canopy.identity.joining_words import BadWords, BundleAnswer, JoinAsk, Joined, NonceAnswer, RenewAsk, to_text
from canopy.identity.joinstate import JoinState, NotJoined
from canopy.identity.sources import HALF_LIFE_SPREAD, Told
from canopy.identity.svid import BadSvid, Bundle, Svid, make_csr, new_key, sign
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock, SystemClock

log = logging.getLogger("canopy.identity")
FIRST_AGAIN_SECONDS, MOST_AGAIN_SECONDS = 1.0, 60.0
REFUSED_SECONDS = 60.0
"""After a refusal that does not pass by itself: an operator may restore the node."""
LOOK_SECONDS = 30.0
"""A machine that slept has not heard its clock."""
LEAST_SECONDS = 1.0
NOT_JOINED_SECONDS = 0.2
"""Between two looks for files; nobody is asked."""
FAILURES = (Unreachable, NotTheEndpoint, JoinRefused, BadWords, BadSvid, Untrusted, BadId)
"""What an exchange with the endpoint raises."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What lets a machine in: a token's id and secret, or a maker's certificate (chain, leaf first) with its key."""

    token_id: str = ""
    secret: str = field(default="", repr=False)
    chain_pem: bytes = b""
    key_pem: bytes = field(default=b"", repr=False)


async def join(
    folder: Path,
    node: str,
    urls: tuple[str, ...],
    fingerprint: str,
    credential: Credential,
    say: Callable[[str, str], None] = lambda step, text: None,
    clock: Clock | None = None,
) -> Identity:
    """Join and leave everything in `folder`; `say` hears (step, text). Raises FAILURES, OtherNode, OSError."""
    root = await root_of(urls, fingerprint)
    say("endpoint", f"{', '.join(urls)} is the fleet's join endpoint (join root sha256 {fingerprint})")
    state = JoinState.begin(folder, node, urls, root)
    say("key", f"this node's key is in {folder} and stays there")
    async with talk_to_any(urls, root) as talk:
        bundle = _read(await talk.get(words.BUNDLE, BundleAnswer))
        say("bundle", f"trust domain {bundle.trust_domain}: {len(bundle.roots_pem)} root(s)")
        key, csr = _csr(bundle, state)
        once = credential.token_id or (await talk.post(words.NONCE, NonceAnswer)).nonce
        ask = _ask(state, credential, once, csr)
        identity = _taken(await talk.post(words.JOIN, Joined, ask), key, state, clock or SystemClock())
    state.keep(identity)
    say("joined", f"{identity.svid.id}")
    return identity


async def renew(state: JoinState, clock: Clock | None = None) -> Identity:
    """A new certificate for a new key, by the node's own; kept in the folder. Raises FAILURES, OSError."""
    async with talk_to_any(state.urls, state.root_pem) as talk:
        bundle = await _bundle(talk, state)
        nonce = (await talk.post(words.NONCE, NonceAnswer)).nonce
        key, csr = _csr(bundle, state)
        signature = to_text(sign(state.key_pem, words.renew_bytes(state.node, nonce, csr)))
        ask = RenewAsk(node=state.node, nonce=nonce, csr=csr, signature=signature)
        identity = _taken(await talk.post(words.RENEW, Joined, ask), key, state, clock or SystemClock())
    state.keep(identity)
    return identity


async def _bundle(talk: Talk, state: JoinState) -> Bundle:
    """The fleet's roots now, kept at once: they are worth it even if the rest is refused."""
    bundle = _read(await talk.get(words.BUNDLE, BundleAnswer))
    state.keep_bundle(bundle)
    return bundle


def _read(answer: BundleAnswer | Joined) -> Bundle:
    return Bundle.read("".join(answer.roots).encode(), answer.trust_domain)


def _csr(bundle: Bundle, state: JoinState) -> tuple[bytes, str]:
    """A new key and its CSR."""
    key = new_key()
    return key, make_csr(key, ids.node(bundle.trust_domain, state.node)).decode()


def _ask(state: JoinState, credential: Credential, once: str, csr: str) -> JoinAsk:
    public = state.public_key_pem.decode()
    signed = words.join_bytes(state.node, once, csr, public)
    maker = to_text(sign(credential.key_pem, signed)) if credential.key_pem else ""
    return JoinAsk(
        node=state.node,
        csr=csr,
        public_key=public,
        signature=to_text(sign(state.key_pem, signed)),
        token_id=credential.token_id,
        secret=credential.secret,
        nonce="" if credential.token_id else once,
        certificate=credential.chain_pem.decode(),
        certificate_signature=maker,
    )


def _taken(joined: Joined, key: bytes, state: JoinState, clock: Clock) -> Identity:
    """The identity in an answer, if it is this node's and the roots with it believe it now."""
    bundle = _read(joined)
    svid = Svid.of(joined.chain.encode(), key)
    if verify_chain(svid.chain_pem, bundle, clock.now_ms() / 1000) != ids.node(bundle.trust_domain, state.node):
        raise Untrusted(f"the endpoint answered with a certificate of {svid.id}")
    return Identity(svid, bundle)


class JoinSource:
    """The identity of a node that has joined: what `folder` keeps, renewed at half of its life, also long after it.

    It never gives up: while nothing answers it tries again within a minute, and when it is refused (revoked, or away
    for longer than the operator's grace) once a minute, with a log line that says so. What it has stays meanwhile.
    """

    def __init__(self, folder: Path, *, clock: Clock | None = None, rng: random.Random | None = None) -> None:
        self._folder, self._clock = folder, clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - spreads renewals
        self._told, self._backoff = Told(self._clock), Backoff(FIRST_AGAIN_SECONDS, MOST_AGAIN_SECONDS, self._rng)
        self._now: Identity | None = None
        self._due = 0.0

    def kept(self) -> Identity | None:
        """What there is without asking anybody, perhaps over; None before the machine has joined."""
        try:
            return JoinState.read(self._folder).kept()
        except NotJoined:
            return None

    async def first(self) -> Identity:
        """What is kept if it still lasts; else what the endpoint gives, however long that takes."""
        while self._now is None:
            if (kept := self.kept()) is not None and kept.left_seconds(self._seconds()) > 0:
                self._take(kept, kept.svid.not_before)
            else:
                await self._try()
        return self._now

    async def changes(self) -> AsyncIterator[Identity]:
        given = await self.first()
        while True:
            await self._until_due()
            await self._try()
            if self._now is not None and self._now != given:
                given = self._now
                yield given

    async def _until_due(self) -> None:
        while (left := self._due - self._seconds()) > 0:
            await self._clock.sleep(min(left, LOOK_SECONDS))

    async def _try(self) -> None:
        """One renewal; waits when it fails."""
        try:
            found = await renew(JoinState.read(self._folder), self._clock)
        except (*FAILURES, NotJoined, OSError) as e:
            self._told.waiting(f"the node's certificate: {e}")
            self._take_bundle()
            await self._clock.sleep(self._again_seconds(e))
            return
        self._told.over()
        self._backoff.reset()
        self._take(found, self._seconds())
        log.info("renewed", extra={"id": str(found.svid.id), "not_after": round(found.svid.not_after)})

    def _again_seconds(self, e: Exception) -> float:
        if isinstance(e, NotJoined):
            return NOT_JOINED_SECONDS  # somebody may be joining just now
        if isinstance(e, JoinRefused) and not e.passes:
            return REFUSED_SECONDS * self._rng.uniform(0.5, 1.5)
        asked = e.retry_after_seconds if isinstance(e, JoinRefused) else 0.0
        return max(asked, self._backoff.next_seconds(), LEAST_SECONDS * self._rng.uniform(0.5, 1.0))

    def _take(self, identity: Identity, since: float) -> None:
        """Its half-life is counted from `since`."""
        half = (identity.svid.not_after - since) / 2 * self._rng.uniform(1 - HALF_LIFE_SPREAD, 1 + HALF_LIFE_SPREAD)
        self._now, self._due = identity, since + max(half, LEAST_SECONDS)

    def _take_bundle(self) -> None:
        """Roots that came before something failed are believed at once."""
        kept = self.kept()
        if self._now is not None and kept is not None and kept.svid == self._now.svid:
            self._now = kept

    def _seconds(self) -> float:
        return self._clock.now_ms() / 1000

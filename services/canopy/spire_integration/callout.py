"""One request of the hub's auth callout -> its answer, and what audit and metrics hold of it. No I/O waits here.

`unit` opens it at the hub (`canopy.bus.callout`); what is known of revoked nodes is in memory (`nodes`).
"""

from collections.abc import Callable, Container

from canopy.bus import admission
from canopy.identity import natsjwt
from canopy.identity.natsjwt import BadRequest, CalloutRequest
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock
from canopy.spire_integration import core
from canopy.spire_integration.core import OWN, Admitted, Believed, Facts, Refused
from canopy.spire_integration.counts import Counts
from canopy.spire_integration.facts import facts_of

ADMISSION = "admission"


class Admission:
    """`seed` is the account's whose signature the hub believes."""

    def __init__(
        self,
        seed: str,
        trust_domain: str,
        revoked: Callable[[], Container[str]],
        audit: AuditLog,
        counts: Counts,
        clock: Clock,
        believed: Believed = OWN,
    ) -> None:
        self._seed, self._trust_domain, self._revoked, self._believed = seed, trust_domain, revoked, believed
        self._audit, self._counts, self._clock = audit, counts, clock

    def answer(self, data: bytes) -> bytes | None:
        """The answer to a request as it came; None for what no server of a hub has signed."""
        began = self._clock.monotonic()
        try:
            request = natsjwt.read_request(data)
        except BadRequest as e:
            self._counts.refusals.add(why="request")
            self._audit.record(ADMISSION, outcome="refused", reason=f"no request of a hub: {e}")
            return None
        answer = self._decided(request)
        self._counts.callout_seconds.observe(self._clock.monotonic() - began)
        return answer.encode()

    def _decided(self, request: CalloutRequest) -> str:
        facts, now = facts_of(request), self._clock.now_ms() / 1000
        decision = core.decide(facts, self._trust_domain, self._revoked(), now, self._believed)
        if isinstance(decision, Refused):
            return self._refused(request, facts, decision, now)
        return self._admitted(request, facts, decision, now)

    def _admitted(self, request: CalloutRequest, facts: Facts, admitted: Admitted, now: float) -> str:
        place = admission.rights(admitted.member)
        if place is None:
            return self._refused(request, facts, Refused("stranger", f"{admitted.name} has no place at the hub"), now)
        jwt = natsjwt.user_jwt(
            self._seed,
            request.user_nkey,
            place.account,
            name=_user(admitted),
            publish=place.rights.publish,
            subscribe=place.rights.subscribe,
            expires_at=admitted.expires_at,
            now=int(now),
        )
        self._counts.admissions.add(kind=admitted.member.kind)
        self._say(facts, "ok", f"{facts.kind} of {facts.server}, in {place.account}")
        return self._answer(request, now, jwt=jwt)

    def _refused(self, request: CalloutRequest, facts: Facts, refused: Refused, now: float) -> str:
        self._counts.refusals.add(why=refused.why)
        self._say(facts, "refused", refused.reason)
        return self._answer(request, now, error=refused.reason)

    def _answer(self, request: CalloutRequest, now: float, jwt: str = "", error: str = "") -> str:
        return natsjwt.callout_answer(
            self._seed, request.server_id, request.user_nkey, jwt=jwt, error=error, now=int(now)
        )

    def _say(self, facts: Facts, outcome: str, reason: str) -> None:
        self._audit.record(
            ADMISSION,
            outcome=outcome,
            who=facts.who,
            reason=reason,
            where=facts.where,
            serial=facts.serial,
            not_after=int(facts.not_after * 1000),
        )


def _user(admitted: Admitted) -> str:
    """Whom the hub calls it. Clients have no name there: a server that reads its configuration (its certificate is a
    new one) throws out every client whose name is none of its own users', and asks us again about the others."""
    return admitted.name if admitted.member.kind == "node" else ""

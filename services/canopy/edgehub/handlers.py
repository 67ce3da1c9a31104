"""What this node's units ask is stamped and carried up; what the cloud pushes is handed on. Bodies are not decoded."""

import logging
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from canopy.bus import AskFailed, AskTimeout, Bus, NoResponders, Place, Reject, Retry
from canopy.bus.bus import TooBig
from canopy.contracts import catalogue as c
from canopy.contracts.subject import AnySubject
from canopy.contracts.wire import Verdict, encode
from canopy.edgehub.core import Gone, Hint, Refused, Silent
from canopy.edgehub.lanes import Lanes
from canopy.edgehub.session import SessionKeeper
from canopy.runtime.health import Metrics

log = logging.getLogger("canopy.edgehub")
DOWN_RETRY_SECONDS = 1.0
REPORTS_WAITING = 16
PAGES_WAITING = 4


class Carrier:
    """Serves the asks of this node's units, and hears the pushes."""

    def __init__(self, bus: Bus, keeper: SessionKeeper, lanes: Lanes, metrics: Metrics) -> None:
        self._bus, self._keeper, self._machine, self._lanes = bus, keeper, keeper.machine, lanes
        self._asked = metrics.counter("canopy_edgehub_asks_total")
        self._pushed = metrics.counter("canopy_edgehub_pushes_total")

    async def open(self) -> None:
        """Serve and hear."""
        await self._bus.serve_raw(c.HUB_REPORT, self.on_report, concurrency=REPORTS_WAITING)
        await self._bus.serve_raw(c.HUB_PAGE, self.on_page, concurrency=PAGES_WAITING)
        await self._bus.serve_raw(c.HUB_STATE_PAGE, self.on_state_page, concurrency=PAGES_WAITING)
        await self._bus.hear_raw(c.PUSH, self.on_push)

    async def on_report(self, body: bytes, place: Place[Any]) -> bytes:
        return await self._carry(self._lanes.report(), c.REPORT, body)

    async def on_page(self, body: bytes, place: Place[Any]) -> bytes:
        return await self._carry(self._lanes.page(), c.PAGE, body, channel=place["channel"])

    async def on_state_page(self, body: bytes, place: Place[Any]) -> bytes:
        return await self._carry(self._lanes.page(), c.STATE_PAGE, body)

    async def on_push(self, body: bytes, place: Place[Any]) -> None:
        """Only the cloud knows the nonce of this session: what bears another one is late, or forged."""
        if not self._machine.up or place["nonce"] != self._machine.link.nonce:
            self._pushed.add(outcome="dropped")
            if not self._machine.up:
                await self._keeper.post(Hint())
            return
        self._pushed.add(outcome="handed on")
        await self._bus.say(c.HUB_PUSH, body, channel=place["channel"])

    async def _carry(
        self, lane: AbstractAsyncContextManager[None], subject: AnySubject, body: bytes, **tokens: str
    ) -> bytes:
        self._only_up()
        async with lane:
            self._only_up()
            session, n = self._machine.stamp()
            stamped = _stamped(body, session, n)
            try:
                answer = await self._keeper.ask(subject, stamped, **tokens)
            except AskFailed as e:
                self._asked.add(subject=subject.pattern, outcome=type(e).__name__)
                raise await self._failed(session, e) from None
            except TooBig as e:
                raise Reject(413, str(e)) from None
        return await self._judged(subject, session, answer)

    def _only_up(self) -> None:
        if not self._machine.up:
            raise Retry(f"the cloud does not answer: {self._machine.link.said.reason}", DOWN_RETRY_SECONDS)

    async def _failed(self, session: int, e: AskFailed) -> AskFailed:
        if isinstance(e, NoResponders | AskTimeout):
            await self._keeper.post(Gone(session) if isinstance(e, NoResponders) else Silent(session))
            return Retry(str(e), DOWN_RETRY_SECONDS)
        return e

    async def _judged(self, subject: AnySubject, session: int, answer: bytes) -> bytes:
        """The answer, if it is for the asker; what CloudHub says of the session is for us."""
        try:
            verdict = _VERDICT.decode(answer)
        except msgspec.DecodeError as e:
            raise Retry(f"an answer that nobody understands: {e}", DOWN_RETRY_SECONDS) from None
        self._asked.add(subject=subject.pattern, outcome=verdict.verdict[:20])
        if verdict.verdict in ("hello", "superseded"):
            await self._keeper.post(Refused(session, verdict))
            raise Retry(f"the session is no more: {verdict.verdict}", DOWN_RETRY_SECONDS)
        if verdict.verdict == "busy":
            raise Retry("the cloud is busy", max(0.1, verdict.retry_after_seconds))
        return answer


_VERDICT = msgspec.json.Decoder(Verdict)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _stamped(body: bytes, session: int, n: int) -> bytes:
    """The same message with the session and n; its other fields are passed on as they are. Raises Reject."""
    try:
        fields = _FIELDS.decode(body)
    except msgspec.DecodeError as e:
        raise Reject(400, f"no JSON object: {e}") from None
    return encode(fields | {"session": msgspec.Raw(b"%d" % session), "n": msgspec.Raw(b"%d" % n)})

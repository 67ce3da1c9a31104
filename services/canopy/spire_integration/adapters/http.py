"""The join endpoint over HTTP: `canopy.identity.joining_words` in and out; `joining_unit` builds it.

No documentation pages, no parameters, no headers that mean anything: five paths, and JSON of at most 16 KiB. Date tells
a node how its clock stands (`canopy doctor`).
"""

import logging
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from canopy.identity import joining_words as words
from canopy.identity.joining_words import ASK_BYTES, BadWords, JoinAsk, Refusal, RenewAsk
from canopy.runtime.clock import Clock
from canopy.runtime.metrics import Counter
from canopy.spire_integration.joining import AWAY, Joining
from canopy.spire_integration.joining_limits import Limits
from canopy.spire_integration.tokens import Refused

log = logging.getLogger("canopy.spire_integration")
AGAIN_SECONDS = 2.0
Answer = Callable[[Request], Awaitable[Any]]


class _Failed(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class Endpoint:
    """The five answers. `asked` counts them by what and outcome."""

    def __init__(self, joining: Joining, limits: Limits, clock: Clock, asked: Counter) -> None:
        self._joining, self._limits, self._clock, self._asked = joining, limits, clock, asked

    def app(self) -> Starlette:
        routes = [
            self._route(words.ROOT, "GET", self._root),
            self._route(words.BUNDLE, "GET", self._bundle),
            self._route(words.NONCE, "POST", self._nonce),
            self._route(words.JOIN, "POST", self._join),
            self._route(words.RENEW, "POST", self._renew),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _elsewhere})
        app.router.redirect_slashes = False
        return app

    def _route(self, path: str, method: str, answer: Answer) -> Route:
        what = path.rpartition("/")[2]

        async def answered(request: Request) -> Response:
            try:
                self._limit(_address(request))
                found, outcome = await answer(request), "ok"
            except _Failed as failed:
                found, outcome = failed.refusal, failed.refusal.error
            except Refused as refused:
                found = Refusal(code=refused.code, error=refused.error, reason=str(refused))
                outcome = refused.error
            except BadWords as e:
                found, outcome = Refusal(code=400, error="words", reason=str(e)), "words"
            except AWAY as e:
                reason = f"not now, try again: {e}"
                found = Refusal(code=503, error="away", reason=reason, retry_after_seconds=AGAIN_SECONDS)
                outcome = "away"
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception:
                log.exception("a bug at the join endpoint")
                found = Refusal(code=500, error="bug", reason="internal error; the log of spire_integration has it")
                outcome = "bug"
            self._asked.add(what=what, outcome=outcome)
            response = _response(found)
            response.headers["Date"] = formatdate(self._clock.now_ms() / 1000, usegmt=True)
            return response

        return Route(path, answered, methods=[method])

    def _limit(self, address: str) -> None:
        if seconds := self._limits.take(address, self._clock.monotonic()):
            reason = "too many asks from this address: come again later"
            raise _Failed(Refusal(code=429, error="pace", reason=reason, retry_after_seconds=round(seconds, 3)))

    async def _root(self, _: Request) -> bytes:
        return self._joining.root_pem

    async def _bundle(self, _: Request) -> msgspec.Struct:
        return await self._joining.bundle()

    async def _nonce(self, _: Request) -> msgspec.Struct:
        return self._joining.nonce()

    async def _join(self, request: Request) -> msgspec.Struct:
        return await self._joining.join(words.read(await _body(request), JoinAsk), _address(request))

    async def _renew(self, request: Request) -> msgspec.Struct:
        return await self._joining.renew(words.read(await _body(request), RenewAsk), _address(request))


async def _body(request: Request) -> bytes:
    """Bounded before it is read. Raises _Failed."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or len(length) > 9 or int(length) > ASK_BYTES:
        reason = f"the body should be at most {ASK_BYTES} bytes, with its length said"
        raise _Failed(Refusal(code=413, error="length", reason=reason))
    body = bytearray()
    async for piece in request.stream():
        body += piece
    return bytes(body)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


async def _elsewhere(_: Request, error: Exception) -> Response:
    """A path or method that there is not."""
    code = error.status_code if isinstance(error, HTTPException) else 500
    there = ", ".join((words.ROOT, words.BUNDLE, words.NONCE, words.JOIN, words.RENEW))
    return _response(Refusal(code=code, error="path", reason=f"this is where nodes join: {there}"))


def _response(found: Any) -> Response:
    if isinstance(found, bytes):
        return Response(found, media_type="application/x-pem-file")
    code, headers = (found.code, {"Connection": "close"}) if isinstance(found, Refusal) else (200, {})
    if isinstance(found, Refusal) and found.retry_after_seconds:
        headers["Retry-After"] = str(max(1, round(found.retry_after_seconds)))
    return Response(msgspec.json.encode(found), code, headers, "application/json")

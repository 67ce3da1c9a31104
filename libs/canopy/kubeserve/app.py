"""The HTTP side: token, discovery, and from each request to a verb and back. `server.py` serves it with uvicorn."""

import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from canopy.kubeserve import discovery, requests, status, tables
from canopy.kubeserve.requests import Form
from canopy.kubeserve.status import ApiError, Json
from canopy.kubeserve.store import Store
from canopy.kubeserve.stored import Stored
from canopy.kubeserve.verbs import Clock, Outcome, Target, Verbs, Write
from canopy.kubeserve.watch import Lines, Wanted, WatchAnswer

BODY_LIMIT_BYTES = 3 << 19  # 1.5 MiB, as etcd's
LIST_PIECE_OBJECTS = 100
_OPEN = ("/healthz", "/livez", "/readyz", "/version")
_log = logging.getLogger(__name__)


class App:
    """An ASGI application over one store. `ready` is what /readyz says."""

    def __init__(self, store: Store, verbs: Verbs, clock: Clock, token: str) -> None:
        self._store, self._verbs, self._clock = store, verbs, clock
        self._bearer = f"Bearer {token}".encode()
        self.ready = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with ExitStack() as during:
            try:
                answer = await self._answer(request, during)
            except ApiError as error:
                answer = _json(error.json(), error.code)
            except ClientDisconnect:
                return
            except Exception:
                _log.exception("%s %s failed", request.method, request.url.path)
                answer = _json(status.broken("kubeserve failed; its log has the traceback").json(), 500)
            await answer(scope, receive, send)

    async def _answer(self, request: Request, during: ExitStack) -> ASGIApp:
        path = request.url.path.rstrip("/") or "/"
        if path in _OPEN:
            return self._open(path)
        if not secrets.compare_digest(request.headers.get("authorization", "").encode(), self._bearer):
            raise status.unauthorized()
        found = self._discovered(path)
        if found is not None:
            return _json(found, 200)
        if path == f"/apis/{discovery.REVIEW_GROUP}/v1/selfsubjectaccessreviews":
            return await self._review(request)
        if path == "/openapi/v2":
            return _openapi_v2(request)
        target = requests.target(self._store.state.kinds, path)
        return await self._verb(request, target)(request, target, during)

    def _open(self, path: str) -> Response:
        if path == "/version":
            return _json(discovery.VERSION, 200)
        well = self.ready or path != "/readyz"
        return Response("ok" if well else "not ready", 200 if well else 503)

    def _discovered(self, path: str) -> Json | None:
        kinds = self._store.state.kinds
        match path.split("/")[1:]:
            case ["api"]:
                return discovery.core_versions()
            case ["apis"]:
                return discovery.groups(kinds)
            case ["apis", group]:
                return discovery.group(kinds, group)
            case ["api", version]:
                return discovery.resources(kinds, "", version)
            case ["apis", group, version]:
                return discovery.resources(kinds, group, version)
            case ["openapi", "v3"]:
                return discovery.openapi_index(kinds)
            case ["openapi", "v3", "api", version]:
                return discovery.openapi(kinds, "", version)
            case ["openapi", "v3", "apis", group, version]:
                return discovery.openapi(kinds, group, version)
        return None

    async def _review(self, request: Request) -> Response:
        """Whoever has the token may do everything, so what is asked need not be read (kubectl asks in protobuf)."""
        if request.method != "POST":
            raise status.method_not_allowed(request.method, request.url.path)
        await _content(request)
        said = {"allowed": True, "reason": "kubeserve has one token, which may do all"}
        head = {"kind": "SelfSubjectAccessReview", "apiVersion": f"{discovery.REVIEW_GROUP}/v1", "metadata": {}}
        return _json(head | {"spec": {}, "status": said}, 201)

    def _verb(self, request: Request, target: Target) -> "Handler":
        one = bool(target.name)
        handler = {
            ("GET", True): self._get,
            ("GET", False): self._list,
            ("POST", False): self._create,
            ("PUT", True): self._update,
            ("PATCH", True): self._patch,
            ("DELETE", True): self._delete,
            ("DELETE", False): self._delete_collection,
        }.get((request.method, one))
        without_status = target.subresource and request.method in ("DELETE", "POST")
        lost = request.method == "POST" and target.kind.namespaced and not target.namespace
        if handler is None or without_status or lost:
            raise status.method_not_allowed(request.method, request.url.path)
        return handler

    # --- reading ------------------------------------------------------------------------------------------------------
    async def _get(self, request: Request, target: Target, during: ExitStack) -> ASGIApp:
        form = requests.form(request.headers.get("accept", ""), request.query_params)
        found = await self._verbs.get(target)
        return self._object(target, found, form)

    async def _list(self, request: Request, target: Target, during: ExitStack) -> ASGIApp:
        query = request.query_params
        form = requests.form(request.headers.get("accept", ""), query)
        requests.unsupported_list(query)
        if requests.flag(query, "watch"):
            return await self._watch(request, target, form, during)
        asked = requests.number(query, "resourceVersion", 0)
        found, revision = await self._verbs.select(target, requests.selector(target.kind, query))
        if asked > revision:
            raise status.too_new(asked, revision)
        return self._many(target, found, revision, form)

    async def _watch(self, request: Request, target: Target, form: Form, during: ExitStack) -> ASGIApp:
        query = request.query_params
        seconds = requests.number(query, "timeoutSeconds", requests.WATCH_DEFAULT_SECONDS)
        wanted = Wanted(
            target.kind,
            target.namespace,
            requests.selector(target.kind, query),
            form,
            requests.flag(query, "allowWatchBookmarks"),
            min(seconds, requests.WATCH_LIMIT_SECONDS),
        )
        after = requests.number(query, "resourceVersion", 0)
        initial: list[Stored] = []
        if after == 0:
            initial, after = await self._verbs.select(target, wanted.selector)
        subscription = during.enter_context(self._store.history.subscribe(target.kind.id, after))
        return WatchAnswer(subscription, initial, wanted, Lines(wanted, self._clock.now))

    # --- writing ------------------------------------------------------------------------------------------------------
    async def _create(self, request: Request, target: Target, during: ExitStack) -> ASGIApp:
        body = await self._body(request)
        return self._outcome(request, target, await self._verbs.create(target, body, self._how(request)), 201)

    async def _update(self, request: Request, target: Target, during: ExitStack) -> ASGIApp:
        body = await self._body(request)
        return self._outcome(request, target, await self._verbs.update(target, body, self._how(request)), 200)

    async def _patch(self, request: Request, target: Target, during: ExitStack) -> ASGIApp:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        body = await self._body(request)
        outcome = await self._verbs.patch(target, media_type, body, self._how(request))
        return self._outcome(request, target, outcome, 200)

    def _how(self, request: Request) -> Write:
        return requests.write(request.query_params)

    async def _body(self, request: Request) -> Any:
        return requests.body(request.headers.get("content-type", ""), await _content(request))

    async def _delete(self, request: Request, target: Target, during: ExitStack) -> ASGIApp:
        options = await self._options(request)
        dry = requests.write(request.query_params, options).dry
        last, gone = await self._verbs.delete(target, options, dry)
        return _json(_deleted(target, last), 200) if gone else _bytes(last.body)

    async def _options(self, request: Request) -> Json:
        options = await self._body(request) or {}
        if not isinstance(options, dict):
            raise status.bad_request("the body of a delete must be DeleteOptions")
        policy = request.query_params.get("propagationPolicy")
        return options | ({"propagationPolicy": policy} if policy else {})

    async def _delete_collection(self, request: Request, target: Target, during: ExitStack) -> ASGIApp:
        selector = requests.selector(target.kind, request.query_params)
        dry = requests.write(request.query_params, await self._options(request)).dry
        found = await self._verbs.delete_collection(target, selector, dry)
        return self._many(target, found, self._store.history.revision, Form())

    # --- answers ------------------------------------------------------------------------------------------------------
    def _outcome(self, request: Request, target: Target, outcome: Outcome, code: int) -> Response:
        form = requests.form(request.headers.get("accept", ""), request.query_params)
        answer = self._object(target, outcome.object, form, code)
        if request.query_params.get("fieldValidation") != "Ignore":
            for path in outcome.warnings:
                answer.headers.append("warning", f'299 - "unknown field \\"{_plain(path)}\\""')
        return answer

    def _object(self, target: Target, found: Stored, form: Form, code: int = 200) -> Response:
        if form.table:
            return self._table(target, [found], str(found.revision), form)
        return _bytes(found.body, code)

    def _many(self, target: Target, found: list[Stored], revision: int, form: Form) -> ASGIApp:
        if form.table:
            return self._table(target, found, str(revision), form)
        kind = target.kind
        head = {"kind": kind.listed_as, "apiVersion": kind.api_version, "metadata": {"resourceVersion": str(revision)}}
        return _Listing(msgspec.json.encode(head)[:-1], found)

    def _table(self, target: Target, found: list[Stored], revision: str, form: Form) -> Response:
        bodies = (o.json() for o in found)
        meta = {"resourceVersion": revision}
        return _json(tables.table(target.kind, bodies, form.include, self._clock.now(), meta), 200)


class _Listing:
    """A list in pieces: the objects' own bytes, never a copy of the whole (a list may have many megabytes)."""

    def __init__(self, head: bytes, found: list[Stored]) -> None:
        self._head, self._found = head, found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        before = self._head + b',"items":['
        for at in range(0, len(self._found), LIST_PIECE_OBJECTS):
            piece = b",".join(o.body for o in self._found[at : at + LIST_PIECE_OBJECTS])
            await send({"type": "http.response.body", "body": before + piece, "more_body": True})
            before = b","
        end = b"]}" if self._found else before + b"]}"
        await send({"type": "http.response.body", "body": end, "more_body": False})


Handler = Callable[[Request, Target, ExitStack], Awaitable[ASGIApp]]


def _plain(text: str) -> str:
    """A client's field name as a header may hold it."""
    return text.encode("ascii", "replace").decode().translate({ord(c): "?" for c in '"\\\r\n\0'})[:200]


def _openapi_v2(request: Request) -> Response:
    """A document without schemas, which in protobuf is nothing: kubectl reads it before it takes a `List` apart."""
    accepted = request.headers.get("accept", "")
    if "protobuf" in accepted:
        return Response(b"", media_type="application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
    return _json(discovery.EMPTY_V2, 200)


def _json(value: Json, code: int) -> Response:
    return _bytes(msgspec.json.encode(value), code)


def _bytes(content: bytes, code: int = 200) -> Response:
    return Response(content, code, media_type="application/json")


def _deleted(target: Target, last: Stored) -> Json:
    details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural, "uid": last.uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


async def _content(request: Request) -> bytes:
    """The body, if it is not too large."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > BODY_LIMIT_BYTES:
            raise status.too_large(BODY_LIMIT_BYTES)
        pieces.append(piece)
    return b"".join(pieces)

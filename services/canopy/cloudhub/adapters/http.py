"""The fleet API, version 1: what the cloud's people and tools read of nodes and devices, and set of devices.

`unit` makes the app and serves it. `/docs` needs nothing from outside.
"""

import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from canopy.cloudhub.adapters import audit, bodies, joining, letters, problem, why_bodies
from canopy.cloudhub.adapters.access import Access
from canopy.cloudhub.adapters.fleet import Fleet, Where
from canopy.cloudhub.adapters.problem import Problem
from canopy.cloudhub.adapters.traced import Shown
from canopy.cloudhub.adapters.watch import Scope, events
from canopy.cloudhub.adapters.whys import Whys
from canopy.cloudhub.traces import Traces
from canopy.cloudhub.watching import Watchers
from canopy.kube.api import Kube
from canopy.runtime.clock import Clock
from canopy.runtime.telemetry import Telemetry

MAX_BODY_BYTES = 256 * 1024
_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": bodies.Errors, "description": text}
    for code, text in (
        (400, "Something in the request is wrong; `field` names it."),
        (401, "No token, or a wrong one."),
        (403, "Kubernetes does not let this caller."),
        (404, "There is none, or the caller may not know."),
        (503, "Kubernetes or the hub does not answer in time."),
    )
}
_BEARER = HTTPBearer(auto_error=False, description="A Kubernetes token; standalone: the API's own token.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
Namespace = Annotated[str, Query(description="Only of this namespace.")]
Node = Annotated[str, Query(description="Only of this node.")]
TracedDevice = Annotated[str, Query(description="Only of this device: namespace/name.")]
Limit = Annotated[int, Query(description="At most so many.", ge=1, le=1000)]
_DEVICE_PATH = re.compile(r"/api/v1/devices/([a-z0-9.-]{1,253})/([a-z0-9.-]{1,253})(?:/|$)")


def build(
    fleet: Fleet,
    access: Access,
    watchers: Watchers,
    clock: Clock,
    telemetry: Telemetry,
    ready: Callable[[], bool],
    shown: Shown | None = None,
    whys: Whys | None = None,
    aside: letters.Shelf | None = None,
    book: audit.Book | None = None,
    desk: joining.Desk | None = None,
) -> FastAPI:
    """The app. `ready` is what `/healthz` says."""
    app = FastAPI(
        title="Canopy fleet API", version="1", docs_url=None, redoc_url=None, openapi_url="/openapi.json",
        description="Nodes, devices, their live twins, and what devices should be.", strict_content_type=False,
        dependencies=[Depends(_only_known_parameters)],
    )  # fmt: skip
    problem.install(app)
    _pages(app, ready)
    _nodes(app, fleet, access)
    _devices(app, fleet, access)
    _watch(app, fleet, access, watchers, clock)
    if whys is not None:
        _whys(app, whys, access)
    _traces(app, shown or Shown(fleet, Traces(0, 1)), access)
    if aside is not None:
        letters.routes(app, aside, _caller(access), _ERRORS)
    if book is not None:
        audit.routes(app, book, _caller(access), _ERRORS)
    if desk is not None:
        joining.routes(app, desk, _caller(access), _ERRORS)

    @app.middleware("http")
    async def traced(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        if int(request.headers.get("content-length") or 0) > MAX_BODY_BYTES or "transfer-encoding" in request.headers:
            return Problem(
                413, f"body: should be at most {MAX_BODY_BYTES} bytes, with its length said", "body"
            ).response()
        # every body is JSON, whatever it is called: curl says that it is a form
        request.scope["headers"] = [h for h in request.scope["headers"] if h[0] != b"content-type"]
        context, writes = telemetry.extract(dict(request.headers)), request.method == "PUT"
        # what only reads begins no trace: tools ask again and again
        name = f"{request.method} fleet API"
        with telemetry.span(name, context, kind="server", always=writes, begins=writes) as span:
            span.set("url.path", request.url.path)
            if device := _DEVICE_PATH.match(request.url.path):
                span.set("device", f"{device[1]}/{device[2]}")
            response = await call(request)
            span.set("http.response.status_code", response.status_code)
            return response

    return app


def _only_known_parameters(request: Request) -> None:
    """Raise Problem for a parameter that there is not: a misspelt filter would show everything."""
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            there = f"are {', '.join(known)}" if known else "is none"
            raise Problem(400, f"{name[:80]}: no such parameter; there {there}", name[:80])


def _caller(access: Access) -> Any:
    def caller(credentials: Credentials) -> Kube:
        return access.of(credentials.credentials if credentials else "")

    return Depends(caller)


def _pages(app: FastAPI, ready: Callable[[], bool]) -> None:
    page = files("canopy.cloudhub.adapters").joinpath("docs.html").read_text(encoding="utf-8")

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return Response("ok\n" if ready() else "not ready\n", 200 if ready() else 503, media_type="text/plain")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page)


def _nodes(app: FastAPI, fleet: Fleet, access: Access) -> None:
    caller = _caller(access)

    @app.get("/api/v1/nodes", responses=_ERRORS, summary="All nodes", tags=["nodes"])
    async def nodes(kube: Any = caller) -> bodies.Nodes:
        return await fleet.nodes(kube)

    @app.get("/api/v1/nodes/{node}", responses=_ERRORS, summary="One node", tags=["nodes"])
    async def node(node: str, kube: Any = caller) -> bodies.Node:
        return await fleet.node(kube, node)


def _devices(app: FastAPI, fleet: Fleet, access: Access) -> None:
    caller = _caller(access)
    path = "/api/v1/devices/{namespace}/{name}"

    @app.get("/api/v1/devices", responses=_ERRORS, summary="Devices with their live twins", tags=["devices"])
    async def devices(namespace: Namespace = "", node: Node = "", kube: Any = caller) -> bodies.Devices:
        return await fleet.devices(kube, Where(namespace, node=node))

    @app.get(path, responses=_ERRORS, summary="One device: spec, status, live twin", tags=["devices"])
    async def device(namespace: str, name: str, kube: Any = caller) -> bodies.DeviceDetail:
        return await fleet.device(kube, Where(namespace, name))

    @app.get(f"{path}/twin", responses=_ERRORS, summary="One live twin", tags=["devices"])
    async def twin(namespace: str, name: str, kube: Any = caller) -> bodies.LiveTwin:
        return await fleet.twin(kube, Where(namespace, name))

    @app.put(f"{path}/desired", responses=_ERRORS, summary="Set what properties should be", tags=["devices"])
    async def desired(namespace: str, name: str, body: bodies.Desired, kube: Any = caller) -> bodies.DesiredSet:
        return await fleet.set_desired(kube, Where(namespace, name), body.root)


def _whys(app: FastAPI, whys: Whys, access: Access) -> None:
    caller, path = _caller(access), "/api/v1/devices/{namespace}/{name}/why"

    @app.get(path, responses=_ERRORS, summary="Why it does not do what it should", tags=["devices"])
    async def why(namespace: str, name: str, kube: Any = caller) -> why_bodies.Why:
        return await whys.of(kube, Where(namespace, name))

    @app.get("/api/v1/status", responses=_ERRORS, summary="The fleet in one page", tags=["nodes"])
    async def status(kube: Any = caller) -> why_bodies.Status:
        return await whys.status(kube)


def _traces(app: FastAPI, shown: Shown, access: Access) -> None:
    caller = _caller(access)

    @app.get("/api/v1/traces", responses=_ERRORS, summary="The last traces, the newest first", tags=["traces"])
    async def traces(device: TracedDevice = "", limit: Limit = 20, kube: Any = caller) -> bodies.Traces:
        return await shown.newest(kube, device, limit)

    @app.get("/api/v1/traces/{trace_id}", responses=_ERRORS, summary="One trace with its spans", tags=["traces"])
    async def trace(trace_id: str, kube: Any = caller) -> bodies.Trace:
        return await shown.one(kube, trace_id)


def _watch(app: FastAPI, fleet: Fleet, access: Access, watchers: Watchers, clock: Clock) -> None:
    caller = _caller(access)
    description = (
        "Server-sent events: `twin` with a LiveTwin for each device, `synced` when all have been said, then `twin` for "
        "each change. The last event may be `slow`, `closed` or `error`, with an error as its data."
    )
    answer: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}, "description": "events"}}

    @app.get(
        "/api/v1/watch", responses=_ERRORS | answer, summary="Live twins as they change", tags=["devices"],
        description=description, response_class=StreamingResponse,
    )  # fmt: skip
    async def watch(namespace: Namespace = "", name: str = "", node: Node = "", kube: Any = caller) -> Response:
        scope = Scope(fleet, kube, Where(namespace, name, node), clock)
        await scope.look()
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events(scope, watchers), media_type="text/event-stream", headers=headers)

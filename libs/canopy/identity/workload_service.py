"""The calls of the Workload API: which identities a workload is given, and each of their successors. `workload_server`
puts it behind gRPC.
"""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc import aio

from canopy.identity.authority import AuthorityAway, AuthorityRefused
from canopy.identity.identity import Identity
from canopy.identity.proto import workload_pb2 as api
from canopy.identity.workload import HEADER, packed
from canopy.identity.workload_apps import Apps, Desk
from canopy.identity.workload_rules import Rule, Workload, fitting
from canopy.runtime.logs import once_per

log = logging.getLogger("canopy.identity.workload_server")
LOOK_SECONDS = 5.0
"""How soon a rule that is no more ends what it let in."""
SAY_AGAIN_SECONDS = 60.0
_PATH = "/SpiffeWorkloadAPI/"
Answer = Any  # a message of protobuf


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """`who` says which workload is behind what gRPC calls a peer."""

    def __init__(
        self,
        rules: Callable[[], tuple[Rule, ...]],
        apps: Apps,
        who: Callable[[str], Workload | None],
        desk: Desk,
    ) -> None:
        self._rules, self._apps, self._who, self._desk = rules, apps, who, desk
        self._say = once_per(SAY_AGAIN_SECONDS)
        self._telling: set[asyncio.Task[None]] = set()
        self._calls: dict[str, tuple[Any, Any, Any]] = {
            f"{_PATH}FetchX509SVID": (self.svids, api.X509SVIDRequest, api.X509SVIDResponse),
            f"{_PATH}FetchX509Bundles": (self.bundles, api.X509BundlesRequest, api.X509BundlesResponse),
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """None: UNIMPLEMENTED."""
        if details.method not in self._calls:
            return None
        function, asked, answered = self._calls[details.method]
        return grpc.unary_stream_rpc_method_handler(function, asked.FromString, answered.SerializeToString)

    async def close(self) -> None:
        for task in list(self._telling):
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def svids(self, request: object, context: aio.ServicerContext) -> AsyncIterator[Answer]:
        async for identities in self._identities(context):
            yield api.X509SVIDResponse(svids=[_svid(one) for one in identities])

    async def bundles(self, request: object, context: aio.ServicerContext) -> AsyncIterator[Answer]:
        last = None
        async for identities in self._identities(context):
            found = {
                f"spiffe://{one.bundle.trust_domain}": packed(b"".join(one.bundle.roots_pem)) for one in identities
            }
            if found != last:
                last = found
                yield api.X509BundlesResponse(bundles=found)

    async def _identities(self, context: aio.ServicerContext) -> AsyncIterator[list[Identity]]:
        """All that the workload has, at each change, for as long as a rule fits."""
        one = await self._workload(context)
        last: list[Identity] = []
        while True:
            rules = self._rules()
            await self._apps.only(rules)
            if not (fit := fitting(rules, one)):
                await self._stranger(one, context)
            apps = [self._apps.of(rule) for rule in fit]
            changes = [app.changed for app in apps]
            found = [app.now for app in apps if app.now is not None]
            if found and found != last:
                last = found
                yield found
            await _any(changes, LOOK_SECONDS)

    async def _workload(self, context: aio.ServicerContext) -> Workload:
        if HEADER not in [tuple(pair) for pair in context.invocation_metadata() or ()]:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        found = self._who(context.peer())
        if found is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "who asks is not known: connect again")
            raise AssertionError  # abort raises
        return found

    async def _stranger(self, one: Workload, context: aio.ServicerContext) -> None:
        if self._say(f"uid {one.uid}"):
            log.warning("no rule fits %s", one)
            task = asyncio.create_task(self._tell(one))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued: no rule fits this workload")

    async def _tell(self, one: Workload) -> None:
        try:
            await self._desk.refused(str(one), "no rule fits")
        except (AuthorityAway, AuthorityRefused) as e:
            log.warning("not in the audit: no rule fits %s: %s", one, e)


def _svid(one: Identity) -> Answer:
    body = b"".join(line for line in one.svid.key_pem.splitlines() if not line.startswith(b"-----"))
    return api.X509SVID(
        spiffe_id=str(one.svid.id),
        x509_svid=packed(one.svid.chain_pem),
        x509_svid_key=base64.b64decode(body),
        bundle=packed(b"".join(one.bundle.roots_pem)),
    )


async def _any(events: list[asyncio.Event], seconds: float) -> None:
    """Until one is set, at most so long."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()

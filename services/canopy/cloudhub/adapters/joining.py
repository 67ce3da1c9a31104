"""Joining over the fleet API: tokens, and nodes that are cut off or let in again. `http` makes the routes of it.

CloudHub decides nothing here: it asks Kubernetes whether the caller may, and spire_integration over the bus. A token is
for who may create Nodes; who may delete them revokes; who may list them sees until when their identities last.
"""

from typing import Any

from fastapi import FastAPI, Response
from msgspec.structs import asdict
from pydantic import BaseModel, Field

from canopy.bus.bus import Bus
from canopy.bus.outcome import NoResponders
from canopy.cloudhub.adapters.problem import Problem
from canopy.cloudhub.adapters.reviews import allowed, name_of
from canopy.contracts.catalogue import IDENTITY_NODES, IDENTITY_REVOKE, IDENTITY_TOKEN
from canopy.contracts.identity_wire import NodesAnswer, NodesAsk, RevokeAsk, TokenAnswer, TokenAsk
from canopy.contracts.subject import AnySubject, check_token
from canopy.kube.api import Kube
from canopy.kube.resource import NODES

ASK_SECONDS = 5.0
MOST_PAGES = 100


class TokenWanted(BaseModel):
    ttl_seconds: int = Field(600, ge=10, le=604_800, description="Seconds until it ends, used or not.")


class Token(BaseModel):
    node: str
    token: str = Field(description="for `canopy join`; told once and never again")
    expires_at: int = Field(description="ms since 1970")


class Why(BaseModel):
    reason: str = Field("", max_length=300, description="for the audit, and for whoever finds the node cut off")


class Standing(BaseModel):
    node: str
    revoked: bool


class Identity(BaseModel):
    """A node that has joined, or was revoked. Times in ms since 1970, 0: never."""

    node: str
    joined_at: int
    by: str = Field(description="what let it join")
    not_after: int = Field(description="until when its certificate lasts")
    serial: str
    revoked_at: int
    revoked_by: str
    reason: str


class Identities(BaseModel):
    identities: list[Identity]


class Desk:
    """Every call takes the caller's own Kube; raises KubeError, Problem, BadToken, AskFailed."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def token(self, kube: Kube, node: str, ttl_seconds: int) -> Token:
        check_token("node", node)
        await allowed(kube, "create", "join tokens are", NODES)
        ask = TokenAsk(node=node, ttl_seconds=ttl_seconds, by=await name_of(kube))
        answer: TokenAnswer = await self._ask(IDENTITY_TOKEN, ask)
        return Token(node=node, token=answer.token, expires_at=answer.expires_at)

    async def revoke(self, kube: Kube, node: str, reason: str, restore: bool) -> Standing:
        check_token("node", node)
        verb, what = ("create", "restoring nodes is") if restore else ("delete", "revoking nodes is")
        await allowed(kube, verb, what, NODES)
        await self._ask(IDENTITY_REVOKE, RevokeAsk(node=node, by=await name_of(kube), reason=reason, restore=restore))
        return Standing(node=node, revoked=not restore)

    async def identities(self, kube: Kube) -> Identities:
        await kube.list(NODES)
        found, after = list[Identity](), ""
        for _ in range(MOST_PAGES):
            page: NodesAnswer = await self._ask(IDENTITY_NODES, NodesAsk(after=after))
            found += [Identity(**{k: v for k, v in asdict(one).items() if k != "public_key"}) for one in page.nodes]
            if not (after := page.next):
                break
        return Identities(identities=found)

    async def _ask(self, subject: AnySubject, ask: Any) -> Any:
        """The answer, if it is a good one."""
        try:
            answer = await self._bus.ask(subject, ask, timeout=ASK_SECONDS)
        except NoResponders:
            raise Problem(503, "nobody answers who lets nodes join: is spire_integration running?") from None
        if answer.verdict != "ok":
            raise Problem(503 if answer.verdict == "busy" else 400, answer.reason or answer.verdict)
        return answer


def routes(app: FastAPI, desk: Desk, caller: Any, errors: dict[int | str, dict[str, Any]]) -> None:
    """Put them into `app`. `caller` is the dependency that gives the caller's Kube."""
    path = "/api/v1/nodes/{node}"
    shortly, no_reason = TokenWanted(ttl_seconds=600), Why(reason="")

    @app.post(f"{path}/token", responses=errors, summary="A token by which a node may join once", tags=["nodes"])
    async def token(node: str, response: Response, body: TokenWanted = shortly, kube: Any = caller) -> Token:
        response.headers["Cache-Control"] = "no-store"
        return await desk.token(kube, node, body.ttl_seconds)

    @app.post(f"{path}/revoke", responses=errors, summary="Cut a node off and keep it out", tags=["nodes"])
    async def revoke(node: str, body: Why = no_reason, kube: Any = caller) -> Standing:
        return await desk.revoke(kube, node, body.reason, restore=False)

    @app.post(f"{path}/restore", responses=errors, summary="Let a revoked node in again", tags=["nodes"])
    async def restore(node: str, body: Why = no_reason, kube: Any = caller) -> Standing:
        return await desk.revoke(kube, node, body.reason, restore=True)

    @app.get("/api/v1/identities", responses=errors, summary="Nodes that have joined, and until when", tags=["nodes"])
    async def identities(kube: Any = caller) -> Identities:
        return await desk.identities(kube)

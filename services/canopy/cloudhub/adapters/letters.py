"""What the fleet API shows of dead letters, and who may see and purge them. `http` makes the routes of it.

A letter may hold what any device said, so it is for those who may list Nodes and all Devices; to purge them one must be
allowed to delete all Devices. Kubernetes is asked as the caller; CloudHub has no rights of its own.
"""

import base64
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import BaseModel, Field

from canopy.cloudhub.adapters.problem import Problem
from canopy.cloudhub.adapters.reviews import allowed
from canopy.cloudhub.letters import Letters, Which
from canopy.contracts.subject import check_token
from canopy.contracts.wire import DeadLetter
from canopy.kube.api import Kube

PATH = "/api/v1/deadletters"
_TRACE_ID = slice(3, 35)


class Summary(BaseModel):
    """One dead letter, without what is long."""

    id: str
    unit: str
    node: str = Field(description="empty: a unit of the cloud")
    source: str = Field(description="the subject, object or driver whose handling failed")
    error: str = Field(description="the exception's type")
    text: str
    count: int = Field(description="how often it failed")
    first: int = Field(description="ms since 1970")
    last: int = Field(description="ms since 1970")
    body_bytes: int
    trace_id: str = Field(description="empty: it was not traced")


class Detail(Summary):
    traceback: str
    body: str = Field(description="base64 of the first bytes; values that look like secrets are left out")
    body_text: str | None = Field(description="the same as text; null: it is none")


class List(BaseModel):
    deadletters: list[Summary]


class Purged(BaseModel):
    purged: int


Unit = Annotated[str, Query(description="Only of this unit.")]
Node = Annotated[str, Query(description="Only of this node.")]
Since = Annotated[int, Query(description="Only those that failed then or later; ms since 1970.", ge=0)]
Limit = Annotated[int, Query(description="At most so many.", ge=1, le=2000)]


class Shelf:
    """Every call takes the caller's own Kube; raises KubeError, Problem, BadToken, AskFailed, StreamError."""

    def __init__(self, letters: Letters) -> None:
        self._letters = letters

    async def newest(self, kube: Kube, which: Which, limit: int) -> List:
        await _allowed(kube, "list")
        _check(which)
        return List(deadletters=[Summary(**_facts(one)) for one in (await self._letters.find(which))[:limit]])

    async def one(self, kube: Kube, id: str) -> Detail:
        await _allowed(kube, "list")
        found = await self._letters.find(_named(id))
        if not found:
            raise _none(id)
        raw = base64.b64decode(found[0].body)
        return Detail(**_facts(found[0]), traceback=found[0].traceback, body=found[0].body, body_text=_text(raw))

    async def purge(self, kube: Kube, which: Which) -> Purged:
        await _allowed(kube, "delete")
        _check(which)
        return Purged(purged=await self._letters.purge(which))

    async def purge_one(self, kube: Kube, id: str) -> Purged:
        await _allowed(kube, "delete")
        if not (purged := await self._letters.purge(_named(id))):
            raise _none(id)
        return Purged(purged=purged)


def routes(app: FastAPI, shelf: Shelf, caller: Any, errors: dict[int | str, dict[str, Any]]) -> None:
    """Put them into `app`. `caller` is the dependency that gives the caller's Kube."""

    @app.get(PATH, responses=errors, summary="Dead letters, the newest first", tags=["dead letters"])
    async def letters(
        unit: Unit = "", node: Node = "", since: Since = 0, limit: Limit = 100, kube: Any = caller
    ) -> List:
        return await shelf.newest(kube, Which(unit=unit, node=node, since=since), limit)

    @app.delete(PATH, responses=errors, summary="Purge dead letters", tags=["dead letters"])
    async def purge(unit: Unit = "", node: Node = "", since: Since = 0, kube: Any = caller) -> Purged:
        return await shelf.purge(kube, Which(unit=unit, node=node, since=since))

    @app.get(f"{PATH}/{{id}}", responses=errors, summary="One, with body and traceback", tags=["dead letters"])
    async def letter(id: str, kube: Any = caller) -> Detail:
        return await shelf.one(kube, id)

    @app.delete(f"{PATH}/{{id}}", responses=errors, summary="Purge one", tags=["dead letters"])
    async def purge_one(id: str, kube: Any = caller) -> Purged:
        return await shelf.purge_one(kube, id)


async def _allowed(kube: Kube, verb: str) -> None:
    await allowed(kube, verb, "dead letters are")


def _check(which: Which) -> None:
    for field in ("unit", "node"):
        if value := getattr(which, field):
            check_token(field, value)


def _named(id: str) -> Which:
    check_token("id", id)
    return Which(id=id)


def _none(id: str) -> Problem:
    return Problem(404, f"{id[:64]}: no such dead letter is kept; see GET {PATH}", "id")


def _facts(letter: DeadLetter) -> dict[str, Any]:
    names = ("id", "unit", "node", "source", "error", "text", "count", "first", "last", "body_bytes")
    return {name: getattr(letter, name) for name in names} | {"trace_id": letter.trace[_TRACE_ID]}


def _text(raw: bytes) -> str | None:
    """A body that was cut in the middle of a character is text too."""
    for end in range(len(raw), max(-1, len(raw) - 4), -1):
        try:
            return raw[:end].decode()
        except UnicodeDecodeError:
            continue
    return None

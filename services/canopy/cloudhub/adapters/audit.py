"""What the fleet API shows of the audit: who was let in or refused, where, and why. `http` makes the routes of it."""

from typing import Annotated, Any

from fastapi import FastAPI, Query
from msgspec.structs import asdict
from pydantic import BaseModel, Field

from canopy.cloudhub.adapters.reviews import allowed
from canopy.cloudhub.audit import Audit, Wanted
from canopy.contracts.identity_wire import AuditRecord
from canopy.contracts.subject import check_token
from canopy.kube.api import Kube

PATH = "/api/v1/audit"
LAST_MS = 253_402_300_799_000


class Record(BaseModel):
    """One decision; times in ms since 1970, 0: none."""

    id: str
    at: int
    what: str = Field(description="admission, rotation, revocation, join, renewal, token, provision ...")
    outcome: str = Field(description="ok or refused")
    who: str = Field(description="a SPIFFE ID, or what it said it was; a person's name")
    subject: str = Field(description="whom it is about, where that is not `who`")
    reason: str
    where: str = Field(description="the address that it came from")
    serial: str = Field(description="of the certificate")
    not_after: int
    node: str = Field(description="the node that decided; empty: the cloud")
    unit: str
    count: int = Field(description="how often, within a short time")
    last: int = Field(description="when it came the last time, if more than once")


class Records(BaseModel):
    records: list[Record]


Node = Annotated[str, Query(description="Only what this node decided.")]
Unit = Annotated[str, Query(description="Only what this unit decided.")]
Who = Annotated[str, Query(description="Only where this stands in `who` or `subject`.", max_length=512)]
What = Annotated[str, Query(description="Only these: admission, revocation, join ...", max_length=64)]
Outcome = Annotated[str, Query(description="Only these: ok, refused.", max_length=64)]
Since = Annotated[int, Query(description="Only then or later; ms since 1970.", ge=0, le=LAST_MS)]
Late = Annotated[bool, Query(description="Also what was decided before `since` and came since: an edge was away.")]
Limit = Annotated[int, Query(description="At most so many.", ge=1, le=2000)]


class Book:
    """Every call takes the caller's own Kube; raises KubeError, BadToken, AskFailed, StreamError, TimeoutError."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def newest(self, kube: Kube, wanted: Wanted, limit: int) -> Records:
        await allowed(kube, "list", "the audit is")
        for field in ("node", "unit"):
            if value := getattr(wanted, field):
                check_token(field, value)
        return Records(records=[_shown(one) for one in await self._audit.find(wanted, limit)])


def routes(app: FastAPI, book: Book, caller: Any, errors: dict[int | str, dict[str, Any]]) -> None:
    """Put them into `app`. `caller` is the dependency that gives the caller's Kube."""

    @app.get(PATH, responses=errors, summary="The audit, the newest first", tags=["audit"])
    async def records(
        node: Node = "",
        unit: Unit = "",
        who: Who = "",
        what: What = "",
        outcome: Outcome = "",
        since: Since = 0,
        late: Late = False,
        limit: Limit = 100,
        kube: Any = caller,
    ) -> Records:
        return await book.newest(kube, Wanted(node, unit, who, what, outcome, since, late), limit)


def _shown(record: AuditRecord) -> Record:
    return Record(**{k: v for k, v in asdict(record).items() if k != "trace"})

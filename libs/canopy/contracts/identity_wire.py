"""Messages of identity: tokens and nodes that joined, what is asked of spire_integration, and the audit.

The same rules as in `wire.py`: a field is only added, with a default. Times are ms since 1970, 0: never.
"""

from collections.abc import Iterable

import msgspec

from canopy.contracts.wire import Message


# --- what is asked ----------------------------------------------------------------------------------------------------
class TokenAsk(Message, frozen=True, kw_only=True):
    """A token by which `node` may join, once. `by` is who asks for it, in the audit's words."""

    node: str
    ttl_seconds: int = 600
    by: str = ""


class TokenAnswer(Message, frozen=True, kw_only=True):
    """The token as text, told once and never again; `verdict` is ok, invalid (with the reason) or busy."""

    verdict: str = "ok"
    token: str = ""
    expires_at: int = 0
    reason: str = ""
    retry_after_seconds: float = 0.0


class RevokeAsk(Message, frozen=True, kw_only=True):
    """Cut `node` and keep it out; `restore` lets it in again."""

    node: str
    by: str = ""
    reason: str = ""
    restore: bool = False


class NodesAsk(Message, frozen=True, kw_only=True):
    """Nodes that have joined whose names come after `after`, at most `most` of them, sorted."""

    after: str = ""
    most: int = 200


class NodeIdentity(Message, frozen=True, kw_only=True):
    """A node that has joined: its key (PEM), who let it join, until when its certificate lasts, whether it is cut."""

    node: str
    public_key: str = ""
    joined_at: int = 0
    by: str = ""
    not_after: int = 0
    serial: str = ""
    revoked_at: int = 0
    revoked_by: str = ""
    reason: str = ""


class NodesAnswer(Message, frozen=True, kw_only=True):
    """One page; `next` is the `after` of the following one, empty at the end. Public keys are left out."""

    verdict: str = "ok"
    nodes: list[NodeIdentity] = msgspec.field(default_factory=list)
    next: str = ""
    reason: str = ""
    retry_after_seconds: float = 0.0


# --- what is kept -----------------------------------------------------------------------------------------------------
class JoinToken(Message, frozen=True, kw_only=True):
    """A token at rest: the hash of its secret and never the secret. `used_from` is the address that used it."""

    id: str
    hash: str
    node: str
    expires_at: int
    created_at: int = 0
    by: str = ""
    used_at: int = 0
    used_from: str = ""


# --- the audit --------------------------------------------------------------------------------------------------------
class AuditRecord(Message, frozen=True, kw_only=True):
    """One decision: `who` (a SPIFFE ID, or what it said it was; for an operator his name) did or wanted `what`.

    `what` is admission, rotation, revocation, join, renewal, token, provision...; `subject` is whom it is about where
    that is not `who`; `outcome` is ok or refused, `reason` says why; `where` is the address that it came from. `node`
    (empty: the cloud) and `unit` say who wrote it, and in the stream they are CloudHub's word. The same decision again
    within a short time raises `count` and `last` of one record.
    """

    id: str
    at: int
    what: str
    outcome: str = "ok"
    who: str = ""
    subject: str = ""
    reason: str = ""
    where: str = ""
    serial: str = ""
    not_after: int = 0
    node: str = ""
    unit: str = ""
    count: int = 1
    last: int = 0
    trace: str = ""


class AuditBatch(Message, frozen=True, kw_only=True):
    """Records on their way, at least once; `dropped`: left out by a bound of the node since the last."""

    records: list[AuditRecord] = msgspec.field(default_factory=list)
    dropped: int = 0


# --- a node's own -----------------------------------------------------------------------------------------------------
class TwinPosition(Message, frozen=True, kw_only=True):
    """Whether DeviceTwin has taken its position in the gateway's stream, and in which run of the node's nats-server."""

    server_run: str = ""
    ready: bool = False


def all_messages() -> Iterable[type[msgspec.Struct]]:
    """Every struct declared here, by name (for the snapshot of the wire)."""
    found = [v for v in globals().values() if isinstance(v, type) and issubclass(v, msgspec.Struct)]
    return sorted((v for v in found if v.__module__ == __name__), key=lambda v: v.__name__)

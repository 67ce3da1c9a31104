"""Who may say and hear what: one row a unit. The bus refuses what is not in the row, and the servers' permissions
are made from it (`canopy.bus.config`), so the table is what really holds. A golden table under test shows every
widened right in review (`python -m canopy.contracts.roles` prints it).
"""

from dataclasses import dataclass
from typing import Any

from canopy.contracts import catalogue as c
from canopy.contracts.subject import AnySubject

CLOUD_UNITS = ("cloudhub", "devicecontroller", "edgecontroller")
"""What is folded as `cloud`, and has a certificate at the hub."""
EDGE_UNITS = ("edgehub", "metamanager", "devicetwin", "mapper")
"""What is folded as `edge`."""
SPIRE_INTEGRATION = "spire_integration"
EDGEIDENTITY = "edgeidentity"
TRUST_UNITS = (SPIRE_INTEGRATION, EDGEIDENTITY)
"""Who let others in. spire_integration is a process of its own with keys of its own at the hub, for nobody lets it in;
edgeidentity runs alone or folded with EDGE_UNITS, and a system connection to the leaf is its own in both."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a unit says (publishes and forgets), asks (and gets an answer), serves (answers), hears; its streams.

    `writes` are streams of last values that it may make, write and read, `purges` those of which it may purge records,
    `reads` those that it only reads; `gateway` is True for the one unit that reads the MQTT gateway's stream.
    """

    says: tuple[AnySubject, ...] = ()
    asks: tuple[AnySubject, ...] = ()
    serves: tuple[AnySubject, ...] = ()
    hears: tuple[AnySubject, ...] = ()
    writes: tuple[str, ...] = ()
    purges: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    gateway: bool = False

    def may_publish(self, subject: AnySubject) -> bool:
        return subject in self.says or subject in self.asks


SUBJECTS = ("says", "asks", "serves", "hears")
STREAMS_OF = ("writes", "purges", "reads")
"""The fields of a Role, as `folded` and `table` go through them."""

MQTT_OUT = (
    c.TWIN_UPDATE_RESULT,
    c.TWIN_DOCUMENT,
    c.MQTT_DELTA,
    c.TWIN_GET_RESULT,
    c.STATE_UPDATE_RESULT,
    c.MEMBERSHIP_RESULT,
    c.MEMBERSHIP_UPDATED,
)

STREAMS: dict[str, AnySubject] = {
    "TWINS": c.TWINS,
    "SESSIONS": c.SESSIONS,
    "CLUSTER": c.CLUSTER,
    "DEADLETTERS": c.DEADLETTERS,
    "NODES": c.NODES,
    "TOKENS": c.TOKENS,
    "AUDIT": c.AUDIT,
}
"""Streams of last values in the account CLOUD."""

ROLES: dict[str, Role] = {
    "cloudhub": Role(
        says=(c.PUSH, c.PRESENCE, c.KEPT_SPANS, c.CLOUD_HEALTH),
        asks=(c.SET_PAGE, c.CLOUD_LETTERS, c.IDENTITY_TOKEN, c.IDENTITY_REVOKE, c.IDENTITY_NODES),
        serves=(c.HELLO, c.BEAT, c.PAGE, c.STATE_PAGE, c.REPORT, c.SPANS, c.LETTERS, c.AUDIT_UP, c.CLOUD_LETTERS),
        hears=(c.SET_PUSH, c.CLOUD_SPANS, c.KEPT_SPANS, c.CLOUD_HEALTH),
        writes=("TWINS", "SESSIONS", "DEADLETTERS", "AUDIT"),
        purges=("TWINS", "DEADLETTERS"),
    ),
    "devicecontroller": Role(
        says=(c.SET_PUSH, c.CLOUD_SPANS, c.CLOUD_HEALTH),
        asks=(c.CLOUD_LETTERS,),
        serves=(c.SET_PAGE,),
        writes=("CLUSTER",),
        purges=("TWINS",),
        reads=("TWINS",),
    ),
    "edgecontroller": Role(says=(c.CLOUD_SPANS, c.CLOUD_HEALTH), asks=(c.CLOUD_LETTERS,), hears=(c.PRESENCE,)),
    SPIRE_INTEGRATION: Role(
        says=(c.CLOUD_SPANS, c.CLOUD_HEALTH),
        asks=(c.CLOUD_LETTERS,),
        serves=(c.IDENTITY_TOKEN, c.IDENTITY_REVOKE, c.IDENTITY_NODES),
        writes=("NODES", "TOKENS", "AUDIT"),
        purges=("TOKENS",),
    ),
    "edgehub": Role(
        says=(c.HUB_PUSH, c.HUB_WANT, c.LINK),
        asks=(
            *(c.HELLO, c.BEAT, c.PAGE, c.STATE_PAGE, c.REPORT, c.SPANS, c.LETTERS, c.AUDIT_UP),
            *(c.TWIN_SUMMARY, c.HUB_LETTERS),
        ),
        serves=(c.HUB_PAGE, c.HUB_STATE_PAGE, c.HUB_REPORT, c.HUB_LETTERS, c.HUB_AUDIT),
        hears=(c.PUSH, c.LINK_INBOX, c.HUB_SPANS, c.HUB_HEALTH),
    ),
    "metamanager": Role(
        says=(c.META_CHANGED, c.HUB_SPANS, c.HUB_HEALTH),
        asks=(c.HUB_PAGE, c.HUB_LETTERS),
        serves=(c.META_PAGE,),
        hears=(c.HUB_PUSH, c.HUB_WANT, c.LINK),
    ),
    "devicetwin": Role(
        says=(*MQTT_OUT, c.TWIN_DELTA, c.HUB_SPANS, c.HUB_HEALTH),
        asks=(c.META_PAGE, c.HUB_REPORT, c.HUB_STATE_PAGE, c.HUB_LETTERS),
        serves=(c.TWIN_REPORT, c.TWIN_SUMMARY, c.TWIN_POSITION),
        hears=(*c.MQTT_IN, c.META_CHANGED, c.HUB_WANT, c.LINK),
        gateway=True,
    ),
    "mapper": Role(
        says=(c.HUB_SPANS, c.HUB_HEALTH),
        asks=(c.META_PAGE, c.TWIN_REPORT, c.HUB_LETTERS),
        hears=(c.META_CHANGED, c.TWIN_DELTA),
    ),
    EDGEIDENTITY: Role(
        says=(c.HUB_SPANS, c.HUB_HEALTH),
        asks=(c.META_PAGE, c.TWIN_POSITION, c.HUB_AUDIT, c.HUB_LETTERS),
        hears=(c.META_CHANGED,),
    ),
}


def folded(units: tuple[str, ...]) -> Role:
    """The union of the rights of units that share one process."""
    rows = [ROLES[u] for u in units]

    def union(field: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(s for r in rows for s in getattr(r, field)))

    return Role(**{field: union(field) for field in (*SUBJECTS, *STREAMS_OF)}, gateway=any(r.gateway for r in rows))


def table() -> str:
    """The table as text: a line a unit and direction."""
    lines = []
    for unit, role in ROLES.items():
        for field in SUBJECTS:
            lines += [f"{unit:18}{field:8}{s.pattern}" for s in getattr(role, field)]
        for field in STREAMS_OF:
            lines += [f"{unit:18}{field:8}{name}" for name in getattr(role, field)]
        if role.gateway:
            lines.append(f"{unit:18}{'reads':8}{c.MQTT_STREAM}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(table())

"""The words of edgeidentity's admin socket: one JSON line asked, one answered, then the connection ends.

Who asks: `canopy device provision|revoke|token` and the Workload API server, on the node itself. Fields are only added,
with a default. Times are ms since 1970.
"""

import msgspec

from canopy.contracts.wire import Message

MOST_LINE_BYTES = 64 * 1024
LONGEST_TTL_SECONDS = 10 * 366 * 86_400
SHORTEST_TTL_SECONDS = 60


class WhoAsk(Message, frozen=True, kw_only=True, tag="who", tag_field="ask"):
    """Which SPIFFE ID a device's, or (`app`) a workload's certificate request must name."""

    namespace: str = ""
    name: str = ""
    app: str = ""


class ProvisionAsk(Message, frozen=True, kw_only=True, tag="provision", tag_field="ask"):
    """A certificate for a device of this node: `csr` is PEM; the key stays with who asks."""

    namespace: str
    name: str
    csr: str
    ttl_seconds: float
    by: str = ""


class DeviceTokenAsk(Message, frozen=True, kw_only=True, tag="token", tag_field="ask"):
    """A password for a device that cannot have a certificate; told once. It takes the place of the former one."""

    namespace: str
    name: str
    ttl_seconds: float
    by: str = ""


class DeviceRevokeAsk(Message, frozen=True, kw_only=True, tag="revoke", tag_field="ask"):
    """Every certificate and password that this device has is worth nothing from now on."""

    namespace: str
    name: str
    reason: str = ""
    by: str = ""


class AppAsk(Message, frozen=True, kw_only=True, tag="app", tag_field="ask"):
    """A certificate for a workload of this node, attested by who asks; `workload` says what it is, for the audit."""

    app: str
    csr: str
    ttl_seconds: float
    workload: str = ""


class StrangerAsk(Message, frozen=True, kw_only=True, tag="stranger", tag_field="ask"):
    """A workload that has no identity asked for one: for the audit."""

    workload: str
    reason: str


class BundleAsk(Message, frozen=True, kw_only=True, tag="bundle", tag_field="ask"):
    """The roots of this node."""


AdminAsk = WhoAsk | ProvisionAsk | DeviceTokenAsk | DeviceRevokeAsk | AppAsk | StrangerAsk | BundleAsk

OK, REFUSED, NOT_FOUND, AWAY = "ok", "refused", "not found", "away"


class AdminAnswer(Message, frozen=True, kw_only=True):
    """`verdict` is OK, REFUSED, NOT_FOUND or AWAY (try again), with the reason in words.

    `chain` and `bundle` are PEM, `bundle` with the trust domain's name; `host` and `port` are where a device speaks
    MQTT over TLS: to the gateway with a certificate, to the front with a password.
    """

    verdict: str = OK
    reason: str = ""
    id: str = ""
    chain: str = ""
    bundle: str = ""
    not_after: int = 0
    token: str = ""
    host: str = ""
    port: int = 0


def encode(message: AdminAsk | AdminAnswer) -> bytes:
    """As one line."""
    return msgspec.json.encode(message) + b"\n"


_ASK = msgspec.json.Decoder(AdminAsk)
_ANSWER = msgspec.json.Decoder(AdminAnswer)


def read_ask(line: bytes) -> AdminAsk:
    """Raises msgspec.MsgspecError."""
    found: AdminAsk = _ASK.decode(line)
    return found


def read_answer(line: bytes) -> AdminAnswer:
    """Raises msgspec.MsgspecError."""
    return _ANSWER.decode(line)

"""What Kubernetes says when it does not do what was asked. Raised by every call on `Kube`; adapters catch them."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that Kubernetes did not like: `field` is a path like `spec.properties[0].type`."""

    field: str
    message: str
    reason: str = ""


class KubeError(Exception):
    """Base of all: `code` is the HTTP status (0 if none came), `reason` Kubernetes' word, the text its message."""

    def __init__(self, message: str, code: int = 0, reason: str = "", causes: tuple[Cause, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.causes = causes


class NotFound(KubeError):
    """No such object, namespace or resource."""


class Conflict(KubeError):
    """The resourceVersion or uid given is not the object's: read again."""


class AlreadyExists(Conflict):
    """An object of that name is there."""


class Gone(KubeError):
    """The revision is too old to go on from: list again."""


class Invalid(KubeError):
    """The object breaks its schema; `causes` names the fields."""


class Forbidden(KubeError):
    """The caller may not do this."""


class Unauthorized(KubeError):
    """The token is missing, wrong or over."""


class Refused(KubeError):
    """Any other 4xx: the request itself is wrong."""


class Unavailable(KubeError):
    """No answer in time, no connection, too many requests, or a 5xx: try again later, the write may have happened."""

    retry_after_seconds: float | None = None


class _Cause(msgspec.Struct):
    field: str = ""
    message: str = ""
    reason: str = ""


class _Details(msgspec.Struct, rename="camel"):
    causes: list[_Cause] = []
    retry_after_seconds: float | None = None


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


_KINDS: dict[int, type[KubeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Unavailable,
}


def error_of(code: int, body: bytes) -> KubeError:
    """The error that an answer with this HTTP status and body means; the body may be anything."""
    status = _decoded(body)
    kind = (
        AlreadyExists if status.reason == "AlreadyExists" else _KINDS.get(code, Unavailable if code >= 500 else Refused)
    )
    details = status.details or _Details()
    causes = tuple(Cause(c.field, c.message, c.reason) for c in details.causes)
    error = kind(status.message or f"Kubernetes answered {code}", code, status.reason, causes)
    if isinstance(error, Unavailable):
        error.retry_after_seconds = details.retry_after_seconds
    return error


def _decoded(body: bytes) -> _Status:
    try:
        return msgspec.json.decode(body, type=_Status)
    except msgspec.DecodeError:
        return _Status(message=body[:200].decode(errors="replace"))


def error_of_event(status: bytes) -> KubeError:
    """The error in an ERROR event of a watch: a Status with its own code."""
    return error_of(_decoded(status).code or 500, status)

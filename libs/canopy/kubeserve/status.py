"""Errors in Kubernetes' own form, a Status object. Raised anywhere in kubeserve; `app.py` answers with them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong; `reason` is one of Kubernetes' FieldValue words, `field` a path."""

    reason: str
    message: str
    field: str

    def json(self) -> Json:
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiError(Exception):
    """An answer that is not success. `code` is the HTTP status, `reason` Kubernetes' word for it."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def json(self) -> Json:
        status: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        return status | {"message": self.message, "reason": self.reason, "details": self.details, "code": self.code}


def _about(group: str, what: str, name: str) -> Json:
    return {"name": name, "group": group, "kind": what} if group else {"name": name, "kind": what}


def _qualified(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> ApiError:
    message = f'{_qualified(group, plural)} "{name}" not found'
    return ApiError(404, "NotFound", message, _about(group, plural, name))


def no_such_path(path: str) -> ApiError:
    return ApiError(404, "NotFound", f"the server could not find the requested resource: kubeserve has no {path}")


def already_exists(group: str, plural: str, name: str) -> ApiError:
    message = f'{_qualified(group, plural)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _about(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {_qualified(group, plural)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _about(group, plural, name))


def invalid(group: str, kind: str, name: str, causes: Iterable[Cause]) -> ApiError:
    causes = list(causes)
    said = [f"{c.field}: {c.message}" for c in causes]
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    message = f'{_qualified(group, kind)} "{name}" is invalid: {text}'
    return ApiError(422, "Invalid", message, _about(group, kind, name) | {"causes": [c.json() for c in causes]})


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def forbidden(message: str) -> ApiError:
    return ApiError(403, "Forbidden", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized: send the bearer token of the kubeconfig file")


def gone(asked: int, oldest: int) -> ApiError:
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def too_new(asked: int, current: int) -> ApiError:
    details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
    message = f"Too large resource version: {asked}, current: {current}"
    return ApiError(504, "Timeout", message, details | {"retryAfterSeconds": 1})


def stopping() -> ApiError:
    return ApiError(503, "ServiceUnavailable", "kubeserve is stopping: try again", {"retryAfterSeconds": 1})


def method_not_allowed(method: str, path: str) -> ApiError:
    message = f"the server does not allow this method on the requested resource: {method} {path}"
    return ApiError(405, "MethodNotAllowed", message)


def unsupported_media(message: str) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", message)


def not_acceptable(accept: str) -> ApiError:
    return ApiError(406, "NotAcceptable", f"kubeserve answers application/json only, plain or as=Table, not {accept!r}")


def too_large(limit_bytes: int) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit_bytes} bytes")


def broken(message: str) -> ApiError:
    return ApiError(500, "InternalError", message)

"""The one shape of every error of the fleet API: `{"error": {"code", "reason", "field"?}}`."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.cloudhub.desired import WrongValue
from canopy.contracts.subject import BadToken
from canopy.kube import errors as kube


class Problem(Exception):
    """An answer that is an error. `field` names what was wrong in the request, if something was."""

    def __init__(self, code: int, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason, self.field = code, reason, field

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "reason": self.reason}
        return {"error": error | ({"field": self.field} if self.field else {})}

    def response(self) -> JSONResponse:
        headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "2"}}.get(self.code)
        return JSONResponse(self.body(), self.code, headers)


_CODES: tuple[tuple[type[kube.KubeError], int], ...] = (
    (kube.Unauthorized, 401),
    (kube.Forbidden, 403),
    (kube.NotFound, 404),
    (kube.Conflict, 409),
    (kube.Invalid, 400),
    (kube.Refused, 400),
)


def problem_of(error: Exception) -> Problem:
    """What an error is to the caller."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BadToken):
        return Problem(400, str(error), error.field)
    if isinstance(error, WrongValue):
        return Problem(400, str(error), error.field)
    if isinstance(error, kube.KubeError):
        code = next((code for kind, code in _CODES if isinstance(error, kind)), 503)
        return Problem(code, f"Kubernetes: {error}", error.causes[0].field if error.causes else "")
    return Problem(503, "the hub does not answer in time; try again")


def install(app: FastAPI) -> None:
    """Make `app` answer every error in this shape."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        return problem_of(error).response()

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        return _invalid(error).response()

    async def http(_: Request, error: Exception) -> JSONResponse:
        code, text = (error.status_code, str(error.detail)) if isinstance(error, HTTPException) else (500, "")
        return Problem(code, text).response()

    async def bug(_: Request, error: Exception) -> JSONResponse:
        return Problem(500, "internal error; CloudHub's log has the traceback").response()

    kinds = (Problem, BadToken, WrongValue, kube.KubeError, AskFailed, StreamError, TimeoutError)
    for kind in kinds:
        app.add_exception_handler(kind, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, bug)


def _invalid(error: Exception) -> Problem:
    details = error.errors() if isinstance(error, RequestValidationError) else ()
    for detail in details:
        place = [str(part) for part in detail["loc"] if part not in ("body", "query", "path")]
        field = ".".join(place) or "body"
        if detail["type"] == "json_invalid":
            return Problem(400, "body: is not JSON", "body")
        if detail["type"] in ("dict_type", "model_attributes_type"):
            return Problem(400, f"{field}: should be a JSON object", field)
        return Problem(400, f"{field}: {detail['msg']}", field)
    return Problem(400, "the request is not as it should be")

"""How the handling of a message ends, and what the asker sees of it: done, Reject (never), Retry (later), or a bug."""


class AskFailed(Exception):
    """An ask that brought no answer: the base of everything that `Bus.ask` raises."""


class NoResponders(AskFailed):
    """Nobody serves the subject. Of a link subject: the link is down."""


class AskTimeout(AskFailed):
    """Nobody answered in time. Of a link subject: no CloudHub answers."""


class Reject(AskFailed):
    """Refused for good. `code` as in HTTP (400 what was said, 404 whom, 403 who), `reason` for people."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


class Retry(AskFailed):
    """Not now: ask again after `after_seconds`."""

    def __init__(self, reason: str, after_seconds: float = 1.0) -> None:
        super().__init__(f"{reason} (again in {after_seconds:g} s)")
        self.reason, self.after_seconds = reason, after_seconds


CODE_HEADER = "Nats-Service-Error-Code"
REASON_HEADER = "Nats-Service-Error"
AFTER_HEADER = "Canopy-Retry-After"


def to_headers(failure: Exception) -> dict[str, str]:
    """The headers of an answer that says `failure`."""
    if isinstance(failure, Reject):
        return {CODE_HEADER: str(failure.code), REASON_HEADER: _line(failure.reason)}
    if isinstance(failure, Retry):
        after = f"{failure.after_seconds:.3f}"
        return {CODE_HEADER: "503", REASON_HEADER: _line(failure.reason), AFTER_HEADER: after}
    return {CODE_HEADER: "500", REASON_HEADER: "internal error; the unit's log has the traceback"}


def from_headers(headers: dict[str, str]) -> AskFailed | None:
    """The failure that an answer's headers say, if any."""
    code = headers.get(CODE_HEADER)
    if code is None:
        return None
    reason = headers.get(REASON_HEADER, "")
    if AFTER_HEADER in headers:
        return Retry(reason, float(headers[AFTER_HEADER]))
    return Reject(int(code), reason) if code != "500" else Retry(reason)


def _line(text: str) -> str:
    return " ".join(text.split())[:1000]

import pytest

from canopy.bus.outcome import Reject, Retry, from_headers, to_headers


@pytest.mark.parametrize("failure", [Reject(403, "not yours"), Retry("not yet", 0.25), Retry("", 3600.0)])
def test_a_failure_survives_the_headers(failure: Exception) -> None:
    found = from_headers(to_headers(failure))
    assert type(found) is type(failure) and str(found) == str(failure)


def test_a_bug_looks_like_a_retry_and_tells_nothing_of_the_inside() -> None:
    found = from_headers(to_headers(KeyError("secret")))
    assert isinstance(found, Retry) and "secret" not in str(found)


def test_a_reason_cannot_bring_headers_of_its_own() -> None:
    headers = to_headers(Reject(400, "a\r\nNats-Request-Info: x\n" + "y" * 5000))
    assert all("\n" not in v and "\r" not in v and len(v) <= 1000 for v in headers.values())


def test_an_answer_without_headers_is_no_failure() -> None:
    assert from_headers({}) is None and from_headers({"traceparent": "x"}) is None

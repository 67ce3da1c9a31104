"""The log of spans that wait for the link: bounded, in order, and put back when the cloud does not take them."""

from canopy.contracts.wire import SpanRecord
from canopy.edgehub.spans import SpanLog


def span(number: int, name: str = "n") -> SpanRecord:
    return SpanRecord(unit="u", name=name, kind="server", trace="a" * 32, id=f"{number:016x}", start=number)


def starts(found: list[SpanRecord]) -> list[int]:
    return [s.start for s in found]


def test_the_oldest_give_way_and_are_counted() -> None:
    log = SpanLog(3)
    log.add(span(n) for n in range(5))
    assert starts(log.take()) == [2, 3, 4] and log.dropped == 2 and len(log) == 0


def test_what_was_not_taken_goes_first_the_next_time() -> None:
    log = SpanLog(1000)
    log.add(span(n) for n in range(300))
    first = log.take()
    assert starts(first) == list(range(200))
    log.put_back(first)
    assert starts(log.take()) == list(range(200)) and len(log) == 100


def test_what_is_put_back_gives_way_to_what_came_meanwhile() -> None:
    log = SpanLog(3)
    log.add(span(n) for n in range(3))
    taken = log.take()
    log.add([span(3), span(4)])
    log.put_back(taken)
    assert starts(log.take()) == [2, 3, 4] and log.dropped == 2


def test_one_message_holds_no_more_than_fits() -> None:
    log = SpanLog(1000)
    log.add(span(n, "n" * 5000) for n in range(200))
    assert 1 < len(log.take()) < 60

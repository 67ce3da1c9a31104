"""Join tokens: made, used once, and refused with words that say why."""

import msgspec
import pytest

from canopy.contracts.identity_wire import JoinToken
from canopy.spire_integration.tokens import MOST_SECONDS, Refused, hashed, machine, make, use

NOW = 1_700_000_000_000
MADE = make("edge-1", 600, "ann", NOW)
HERE = machine("10.0.0.7", "key")
USED = use(MADE.record, MADE.secret, "edge-1", HERE, NOW)


def test_at_rest_there_is_the_hash_and_never_the_secret() -> None:
    assert MADE.secret.encode() not in msgspec.json.encode(MADE.record)
    assert MADE.record.hash == hashed(MADE.secret)
    assert (MADE.record.node, MADE.record.by, MADE.record.expires_at) == ("edge-1", "ann", NOW + 600_000)
    assert make("edge-1", 600, "ann", NOW).secret != MADE.secret


def test_a_use_says_when_and_from_where() -> None:
    assert (USED.used_at, USED.used_from, USED.id) == (NOW, HERE, MADE.record.id)


@pytest.mark.parametrize(
    ("record", "secret", "node", "after_ms", "error", "words"),
    [
        (None, MADE.secret, "edge-1", 0, "unknown", "no such join token"),
        (MADE.record, "another", "edge-1", 0, "unknown", "no such join token"),
        (MADE.record, "", "edge-1", 0, "unknown", "no such join token"),
        (MADE.record, "é\ud800", "edge-1", 0, "unknown", "no such join token"),
        (MADE.record, MADE.secret, "edge-2", 0, "other-node", "for the node edge-1, not for edge-2"),
        (USED, MADE.secret, "edge-1", 1, "used", "used already, at 2023-11-14T22:13:20Z from 10.0.0.7"),
        (USED, MADE.secret, "edge-1", 600_000, "used", "used already"),
        (MADE.record, MADE.secret, "edge-1", 600_000, "late", "ended at 2023-11-14T22:23:20Z"),
        (USED, "another", "edge-2", 0, "unknown", "no such join token"),
    ],
)
def test_a_token_is_refused_with_words_that_say_which(
    record: JoinToken | None, secret: str, node: str, after_ms: int, error: str, words: str
) -> None:
    with pytest.raises(Refused, match=words) as refused:
        use(record, secret, node, machine("10.0.0.7", "another"), NOW + after_ms)
    assert (refused.value.code, refused.value.error) == (403, error)


def test_the_machine_that_used_it_may_ask_again_while_it_lasts() -> None:
    assert use(USED, MADE.secret, "edge-1", machine("10.0.0.99", "key"), NOW + 599_999) is USED
    for where in (machine("10.0.0.7", "other"), "10.0.0.7", HERE.partition(" key ")[2]):
        with pytest.raises(Refused, match="used already"):
            use(USED, MADE.secret, "edge-1", where, NOW + 1)
    with pytest.raises(Refused, match="ended at"):
        use(USED, MADE.secret, "edge-1", HERE, NOW + 600_000)
    with pytest.raises(Refused, match="used already"):
        use(msgspec.structs.replace(USED, used_from="10.0.0.7"), MADE.secret, "edge-1", "10.0.0.7", NOW)


@pytest.mark.parametrize("seconds", [0, -1, 9, MOST_SECONDS + 1])
def test_a_lifetime_has_bounds(seconds: int) -> None:
    with pytest.raises(ValueError, match="10 s to 604800 s"):
        make("edge-1", seconds, "ann", NOW)

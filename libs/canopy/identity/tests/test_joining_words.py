"""Texts and bytes of joining: what is read back, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.identity.joining_words import (
    PREFIX,
    BadJoinToken,
    BadWords,
    JoinAsk,
    RenewAsk,
    Token,
    from_text,
    join_bytes,
    parse,
    read,
    renew_bytes,
    to_text,
)

TOKEN = Token("edge.1", "a1", "s3cret-_", "ab" * 32, "https://hub:8443,https://hub-2:8443", "tls://hub:7422")


def test_a_token_is_one_word_and_reads_back() -> None:
    assert parse(TOKEN.text) == TOKEN
    assert len(TOKEN.text.split()) == 1 and TOKEN.text.startswith(PREFIX)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "canopy node token"),
        ("secret", "begins with"),
        (PREFIX, "damaged"),
        (PREFIX + "%%%", "damaged"),
        (PREFIX + "é", "damaged"),
        (PREFIX + "A" * 5000, "begins with"),
        (TOKEN.text[:-9], "damaged"),
        (Token("Edge 1", "a", "s", "ab" * 32).text, "damaged"),
        (Token("edge-1", "a", "s", "ab").text, "damaged"),
        (Token("edge-1", "a.>", "s", "ab" * 32).text, "damaged"),
    ],
)
def test_what_is_no_token_is_refused_without_being_said(text: str, word: str) -> None:
    with pytest.raises(BadJoinToken, match=word) as refused:
        parse(text)
    secret = text.removeprefix(PREFIX)
    assert len(secret) < 10 or secret not in str(refused.value)


@given(st.text(max_size=200))
def test_any_text_behind_the_prefix_is_refused_or_a_token(text: str) -> None:
    try:
        parse(PREFIX + text)
    except BadJoinToken:
        pass


@given(st.binary(max_size=300))
def test_any_body_is_refused_or_the_words(body: bytes) -> None:
    for kind in (JoinAsk, RenewAsk):
        with pytest.raises(BadWords):
            read(body, kind)


def test_what_is_signed_tells_every_part_apart() -> None:
    parts = [
        ("a", "b", "c", "d"),
        ("ab", "", "c", "d"),
        ("a", "bc", "", "d"),
        ("a", "b", "d", "c"),
        ("a", "b", "cd", ""),
    ]
    signed = {join_bytes(*p) for p in parts} | {renew_bytes("a", "b", "c"), renew_bytes("a", "bc", "")}
    assert len(signed) == len(parts) + 2


@given(st.binary(max_size=80))
def test_a_signature_travels_as_text_and_nonsense_becomes_none(signature: bytes) -> None:
    assert from_text(to_text(signature)) == signature
    assert from_text("é!") == b""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.contracts import catalogue as c
from canopy.contracts.subject import BadToken

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)
WORDS = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
PLACES = {"node": NAMES, "namespace": NAMES, "name": NAMES}


def _tokens(name: str) -> st.SearchStrategy[dict[str, str]]:
    subject = c.subjects()[name]
    places = {m: subject.listed.get(m) for m in subject._regex.groupindex}
    return st.fixed_dictionaries(
        {p: st.sampled_from(words) if words else PLACES.get(p, WORDS) for p, words in places.items()}
    )


CASES = st.sampled_from(sorted(c.subjects())).flatmap(lambda n: st.tuples(st.just(n), _tokens(n)))


@given(CASES)
def test_every_address_of_the_catalogue_reads_back_as_what_it_was_made_of(case: tuple[str, dict[str, str]]) -> None:
    subject = c.subjects()[case[0]]
    address = subject.at(**case[1])
    assert subject.tokens(address) == case[1]
    assert len(address.split(".")) == len(subject.pattern.split("."))
    assert not set(address) & set("*> ")


@given(st.text(max_size=12))
def test_a_token_that_is_no_name_never_makes_an_address(text: str) -> None:
    try:
        address = c.BEAT.at(node=text)
    except BadToken:
        return
    assert c.BEAT.tokens(address) == {"node": text}


@pytest.mark.parametrize("bad", ["", "*", ">", "a b", "A", "a_b", "-a", "a.", "a/b", "é", "a\n", "x" * 254])
def test_what_is_no_kubernetes_name_is_refused(bad: str) -> None:
    with pytest.raises(BadToken, match="node"):
        c.BEAT.at(node=bad)


@pytest.mark.parametrize(
    "address",
    [
        "node.*.ask.beat",
        "node.A.ask.beat",
        "node.a.b.ask.beat",
        "node.a.ask.page.secrets",
        "node..ask.beat",
        "node.a.ask.beat\n",
    ],
)
def test_what_is_not_of_a_family_has_no_tokens(address: str) -> None:
    assert c.BEAT.tokens(address) is None and c.PAGE.tokens(address) is None


def test_a_dot_is_one_token_on_the_link_and_two_slashes_at_the_gateway() -> None:
    assert c.BEAT.at(node="edge.1") == "node.edge_1.ask.beat"
    assert c.TWIN_UPDATE.at(namespace="ns", name="a.b") == "$hw.events.device.ns.a//b.twin.update"
    assert c.TWIN_UPDATE.tokens("$hw.events.device.ns.a//b.twin.update") == {"namespace": "ns", "name": "a.b"}


@pytest.mark.parametrize("name", ["no_such", "UPPER", "-a", "ümlaut", "a.", "n" * 253])
def test_a_topic_may_bear_a_name_that_cannot_exist_so_that_it_gets_an_answer(name: str) -> None:
    address = c.TWIN_UPDATE.at(namespace="default", name=name)
    assert c.TWIN_UPDATE.tokens(address) == {"namespace": "default", "name": name}


@pytest.mark.parametrize("name", ["", "a b", "a*", ">", "a\n", "/", "n" * 254])
def test_a_topic_bears_no_wildcards_spaces_and_endless_names(name: str) -> None:
    with pytest.raises(BadToken, match="name"):
        c.TWIN_UPDATE.at(namespace="default", name=name)
    assert c.TWIN_UPDATE.tokens(f"$hw.events.device.default.{name}.twin.update") is None


def test_listed_words_are_subscribed_one_by_one() -> None:
    assert c.PAGE.wilds() == ["node.*.ask.page.devices"]
    assert c.PUSH.wilds(node="a.b") == ["node.a_b.in.*.push.devices"]

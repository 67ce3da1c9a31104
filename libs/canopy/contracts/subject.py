"""What a subject is: one declaration gives the address, the wildcard, the parser and the span's name.

The catalogue (`catalogue.py`) is the only place that makes them; every unit imports them from there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

_KUBE_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
TOPIC_NAME = re.compile(r"[^\s*>/]{1,253}")
"""A name as a stranger may write it in an MQTT topic: one that cannot exist is answered like one that does not."""
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACE = re.compile(r"\{(\w+)\}")
# Tokens that are names of Kubernetes objects may hold dots; every other token is one plain word.
_NAMES = frozenset({"node", "namespace", "name"})


class BadToken(ValueError):
    """A token that may not stand in a subject. `field` names it."""

    def __init__(self, field_name: str, value: str) -> None:
        kind = (
            "a Kubernetes name (a-z, 0-9, '-' and '.')" if field_name in _NAMES else "a word (A-Z, a-z, 0-9, '-', '_')"
        )
        super().__init__(f"{field_name} {value!r} is not {kind}")
        self.field = field_name


def check_token(field_name: str, value: str, names: re.Pattern[str] = _KUBE_NAME) -> str:
    """Return `value` if it may stand at the place `field_name` of a subject, else raise BadToken."""
    if not (names if field_name in _NAMES else _WORD).fullmatch(value):
        raise BadToken(field_name, value)
    return value


@dataclass(frozen=True)
class Subject(Generic[Q, A]):
    """A family of addresses, what travels on it, and what answers it.

    `pattern` holds places in braces: `node.{node}.ask.report`. `dot` is what stands for a '.' of a Kubernetes name:
    '_' in our own subjects, '//' where the MQTT gateway makes the subject from a topic. `queue` is the queue group
    of those who serve it. `listed` holds the words that a place may take, where they are few: they are subscribed
    exactly, one by one, since queue groups over wildcards cross accounts badly. `begins` False: what timers say and
    ask; it joins a trace, but begins none.
    """

    pattern: str
    message: type[Q]
    answer: type[A] | None = None
    doc: str = ""
    queue: str = ""
    dot: str = "_"
    names: re.Pattern[str] = _KUBE_NAME  # what may stand for a name
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    begins: bool = True

    def at(self, **tokens: str) -> str:
        """The address with every place filled. Raises BadToken, or KeyError for a place left open."""
        return _PLACE.sub(lambda m: self._encode(m[1], tokens[m[1]]), self.pattern)

    def wild(self, **tokens: str) -> str:
        """The address with `*` at every place that `tokens` leaves open."""
        return _PLACE.sub(lambda m: self._encode(m[1], tokens[m[1]]) if m[1] in tokens else "*", self.pattern)

    def wilds(self, **tokens: str) -> list[str]:
        """The subjects to subscribe: one for each listed word, `*` elsewhere."""
        open_places = [place for place in self.listed if place not in tokens]
        if not open_places:
            return [self.wild(**tokens)]
        place = open_places[0]
        return [s for word in self.listed[place] for s in self.wilds(**tokens, **{place: word})]

    def tokens(self, address: str) -> dict[str, str] | None:
        """What stands at the places of `address`; None if it is not of this family or a token is not allowed."""
        found = self._regex.fullmatch(address)
        if found is None:
            return None
        values = {k: self._decode(k, v) for k, v in found.groupdict().items()}
        return values if all(self._allowed(k, v) for k, v in values.items()) else None

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts = _PLACE.split(self.pattern)
        text = "".join(re.escape(p) if i % 2 == 0 else rf"(?P<{p}>[^.]+)" for i, p in enumerate(parts))
        return re.compile(text)

    def _encode(self, place: str, value: str) -> str:
        check_token(place, value, self.names)
        return value.replace(".", self.dot) if place in _NAMES else value

    def _decode(self, place: str, value: str) -> str:
        return value.replace(self.dot, ".") if place in _NAMES else value

    def _allowed(self, place: str, value: str) -> bool:
        try:
            check_token(place, value, self.names)
        except BadToken:
            return False
        return place not in self.listed or value in self.listed[place]

    def __hash__(self) -> int:
        return hash(self.pattern)


AnySubject = Subject[Any, Any]


def said(pattern: str, message: type[Q], **more: Any) -> Subject[Q, None]:
    """A subject that nobody answers."""
    return Subject(pattern, message, None, **more)

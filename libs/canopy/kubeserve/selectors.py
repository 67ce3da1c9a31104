"""Label and field selectors. Pure: a selector's text becomes a value that says whether an object matches."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from canopy.kubeserve.status import Json, bad_request

_KEY = r"(?:[a-z0-9A-Z][-a-z0-9A-Z.]*/)?[a-zA-Z0-9](?:[-\w.]*[a-zA-Z0-9])?"
_WORD = r"(?:[a-zA-Z0-9](?:[-\w.]*[a-zA-Z0-9])?)?"
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_WORD})")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s+\(([^()]*)\)")
_HAS = re.compile(rf"(!?)\s*({_KEY})")
_COMMA = re.compile(r",(?![^()]*\))")
SELECTOR_LIMIT_CHARACTERS = 8_192

Requirement = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Selector:
    """Which objects a list or watch is about. `fields` are (path, equal, value)."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[tuple[str, bool, str], ...] = ()

    @property
    def everything(self) -> bool:
        return not self.labels and not self.fields

    def matches(self, labels: Mapping[str, str], field: Callable[[str], str]) -> bool:
        """`field` gives the text at a path of the object, "" where there is none."""
        return all(r(labels) for r in self.labels) and all((field(p) == v) is eq for p, eq, v in self.fields)


def parse(labels: str, fields: str, known_fields: Collection[str]) -> Selector:
    """The selector of a request; what cannot be read is a BadRequest that names it."""
    if len(labels) + len(fields) > SELECTOR_LIMIT_CHARACTERS:
        raise bad_request(f"selectors may have {SELECTOR_LIMIT_CHARACTERS} characters together")
    return Selector(_labels(labels), _fields(fields, known_fields))


def _labels(text: str) -> tuple[Requirement, ...]:
    return tuple(_requirement(part.strip()) for part in _COMMA.split(text)) if text.strip() else ()


def _requirement(text: str) -> Requirement:
    if found := _EQUAL.fullmatch(text):
        key, sign, value = found.groups()
        return _differs(key, {value}) if sign == "!=" else _among(key, {value})
    if found := _SET.fullmatch(text):
        key, word, listed = found.groups()
        values = {v.strip() for v in listed.split(",")}
        return _among(key, values) if word == "in" else _differs(key, values)
    if found := _HAS.fullmatch(text):
        absent, key = found.groups()
        return lambda labels: (key in labels) is not bool(absent)
    raise bad_request(
        f"unable to parse label selector requirement {text!r}: use key=value, key!=value, key in (a,b), key"
    )


def _among(key: str, values: set[str]) -> Requirement:
    return lambda labels: labels.get(key) in values


def _differs(key: str, values: set[str]) -> Requirement:
    return lambda labels: labels.get(key) not in values


def _fields(text: str, known: Collection[str]) -> tuple[tuple[str, bool, str], ...]:
    return tuple(_field(part.strip(), known) for part in text.split(",")) if text.strip() else ()


def _field(text: str, known: Collection[str]) -> tuple[str, bool, str]:
    path, sign, value = re.split(r"(!=|==|=)", text, maxsplit=1) if "=" in text else (text, "", "")
    if not sign or path not in known:
        raise bad_request(f"field label not supported: {path}")
    return path, sign != "!=", value


def text_at(value: Any, path: str) -> str:
    """The text at a dotted path of an object, as field selectors compare it."""
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def reader(value: Json) -> Callable[[str], str]:
    return lambda path: text_at(value, path)

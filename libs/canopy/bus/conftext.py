"""How nats-server's configuration is written: quoted values, subjects, users. Pure; `config` and `trust` use it."""

import json
from collections.abc import Iterable

from canopy.bus.rights import Permissions


class Variable(str):
    """The name of a variable in nats-server's environment that holds a value: written `$NAME`, so that no password
    stands in a file. Read like the file's own text: let a value begin with a letter, for 12e3 would be a number."""


def certified(name: str, rights: Permissions, kinds: Iterable[str] = ()) -> str:
    """A user whose certificate bears `name` as its only URI; `kinds` of connections it may make, all if none."""
    return _entry(f"user: {quoted(name)}{_kinds(kinds)}", rights)


def keyed(nkey: str, rights: Permissions) -> str:
    """A user who signs with the private half of `nkey`; a connection of a NATS client and no other."""
    return _entry(f"nkey: {quoted(nkey)}{_kinds(['STANDARD'])}", rights)


def _kinds(kinds: Iterable[str]) -> str:
    found = list(kinds)
    return f", allowed_connection_types: {listed(found)}" if found else ""


def _entry(who: str, rights: Permissions) -> str:
    return (
        f"      {{ {who}, permissions: {{ publish: {allow(rights.publish)}, subscribe: {allow(rights.subscribe)} }} }}"
    )


def users(entries: list[str]) -> str:
    return lines("    users: [", *entries, "    ]") if entries else ""


def allow(values: Iterable[str]) -> str:
    """An empty list would allow everything."""
    found = list(values)
    return listed(found) if found else '{ deny: ">" }'


def listed(values: Iterable[str]) -> str:
    return "[" + ", ".join(quoted(v) for v in values) + "]"


def quoted(value: str) -> str:
    return f"${value}" if isinstance(value, Variable) else json.dumps(value)


def lines(*parts: str) -> str:
    return "\n".join(p for p in parts if p)

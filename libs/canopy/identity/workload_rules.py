"""Which workload of a node is which app: rules from a file, as people write them. Pure; `workload_server` calls it.

[[app]]
name = "camera"                # gets spiffe://NODE.DOMAIN/app/camera
uid = 1001                     # each that is given must fit: uid, gid, path (of the program)
path = "/usr/bin/camera"
ttl_seconds = 3600
"""

import tomllib
from dataclasses import dataclass
from typing import Any

from canopy.contracts.subject import BadToken, check_token

MOST_RULES = 1_000
MOST_FILE_BYTES = 1 << 20
SHORTEST_TTL_SECONDS, USUAL_TTL_SECONDS, LONGEST_TTL_SECONDS = 60, 3600, 366 * 86_400
_KEYS = ("name", "uid", "gid", "path", "ttl_seconds")


class BadRules(ValueError):
    """The text says which rule is wrong, and what would be right."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A process that asks, by the kernel's word; `path` is "" where it cannot be known (then no rule with one fits)."""

    pid: int
    uid: int
    gid: int
    path: str = ""

    def __str__(self) -> str:
        return f"uid {self.uid} gid {self.gid} pid {self.pid} {self.path or '(a program that we may not see)'}"


@dataclass(frozen=True, slots=True)
class Rule:
    """`uid`, `gid` None and `path` "": it does not matter."""

    app: str
    uid: int | None = None
    gid: int | None = None
    path: str = ""
    ttl_seconds: int = USUAL_TTL_SECONDS

    def fits(self, one: Workload) -> bool:
        return self.uid in (None, one.uid) and self.gid in (None, one.gid) and self.path in ("", one.path)

    def __str__(self) -> str:
        given = (("uid", self.uid), ("gid", self.gid), ("path", self.path or None))
        return " ".join(f"{name} {value}" for name, value in given if value is not None)


def fitting(rules: tuple[Rule, ...], one: Workload) -> tuple[Rule, ...]:
    """One rule for each app that the workload is, in the file's order."""
    found: dict[str, Rule] = {}
    for rule in rules:
        if rule.fits(one):
            found.setdefault(rule.app, rule)
    return tuple(found.values())


def read(text: str) -> tuple[Rule, ...]:
    """The rules of a file. Raises BadRules."""
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise BadRules(f"this is no TOML: {e}") from None
    listed = found.pop("app", [])
    if found or not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise BadRules(f"{', '.join(found) or 'app'}: there is only [[app]], once for each rule")
    if len(listed) > MOST_RULES:
        raise BadRules(f"{len(listed)} rules: should be at most {MOST_RULES}")
    return tuple(_rule(number, one) for number, one in enumerate(listed, 1))


def _rule(number: int, one: dict[str, Any]) -> Rule:
    def wrong(text: str) -> BadRules:
        return BadRules(f"rule {number} ({str(one.get('name', 'without a name'))[:60]}): {text}")

    if unknown := [key for key in one if key not in _KEYS]:
        raise wrong(f"{unknown[0]}: there are {', '.join(_KEYS)}")
    try:
        name = check_token("name", str(one.get("name", "")))
    except BadToken as e:
        raise wrong(str(e)) from None
    for key in ("uid", "gid"):
        if (value := one.get(key)) is not None and (type(value) is not int or not 0 <= value < 2**32):
            raise wrong(f"{key} is {value!r}: should be a number")
    path, ttl = one.get("path", ""), one.get("ttl_seconds", USUAL_TTL_SECONDS)
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise wrong(f"path is {path!r}: should be the whole path of a program")
    if type(ttl) is not int or not SHORTEST_TTL_SECONDS <= ttl <= LONGEST_TTL_SECONDS:
        raise wrong(f"ttl_seconds is {ttl!r}: should be {SHORTEST_TTL_SECONDS} to {LONGEST_TTL_SECONDS}")
    if one.get("uid") is None and one.get("gid") is None and not path:
        raise wrong("anybody would fit: give uid, gid or path")
    return Rule(name, one.get("uid"), one.get("gid"), path, ttl)

"""The part of JSONPath that printer columns use: `.a.b`, `['a']`, `[0]`, `[*]`, `[?(@.k=='v')]`. Pure."""

import re
from functools import lru_cache
from typing import Any

_STEP = re.compile(
    r"\.(?P<name>(?:[^.\[\]\\]|\\.)+)"
    r"|\[(?P<quote>['\"])(?P<key>.*?)(?P=quote)\]"
    r"|\[(?P<index>-?\d+)\]"
    r"|\[\?\(\s*@\.(?P<by>[\w.]+)\s*==?\s*['\"](?P<value>[^'\"]*)['\"]\s*\)\]"
    r"|(?P<all>\[\*\])"
)
Step = tuple[str, Any]


@lru_cache(maxsize=1_024)
def _steps(path: str) -> tuple[Step, ...] | None:
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            return None
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def _step(found: re.Match[str]) -> Step:
    if found["name"] is not None:
        return ("key", found["name"].replace("\\", ""))
    if found["key"] is not None:
        return ("key", found["key"])
    if found["index"] is not None:
        return ("index", int(found["index"]))
    return ("all", None) if found["all"] else ("where", (found["by"].split("."), found["value"]))


def known(path: Any) -> bool:
    """Whether `find` can follow this path."""
    return isinstance(path, str) and _steps(path) is not None


def find(value: Any, path: str) -> list[Any]:
    """Everything at the path; empty where there is nothing."""
    found = [value]
    for word, what in _steps(path) or ():
        found = [after for before in found for after in _follow(before, word, what)]
    return found


def _follow(value: Any, word: str, what: Any) -> list[Any]:
    if word == "key":
        return [value[what]] if isinstance(value, dict) and what in value else []
    if not isinstance(value, list):
        return list(value.values()) if word == "all" and isinstance(value, dict) else []
    if word == "index":
        return [value[what]] if -len(value) <= what < len(value) else []
    return list(value) if word == "all" else [v for v in value if _at(v, what[0]) == what[1]]


def _at(value: Any, path: list[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value

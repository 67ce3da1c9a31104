"""Takes what looks like a secret, by its name, out of a text that people will read. Only `letters` calls it.

Best effort: a secret that is called something else stays.
"""

import re
from typing import Any

import msgspec

HIDDEN = "***"
_NAME = r"passw|secret|token|credential|private.?key|api.?key|authorization"
_SECRET = re.compile(_NAME, re.IGNORECASE)
_PAIR = re.compile(
    rf'("[^"\\]{{0,64}}(?:{_NAME})[^"\\]{{0,64}}"\s*:\s*)("(?:[^"\\]|\\.)*"?|[^\s,}}\]]+)'.encode(), re.IGNORECASE
)


def without_secrets(text: bytes) -> bytes:
    """JSON without the values that a key, or a `name` beside them, calls a secret; other text without such pairs."""
    if not _SECRET.search(text.decode("utf-8", "replace")):
        return text
    try:
        return msgspec.json.encode(_cleared(msgspec.json.decode(text)))
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return _PAIR.sub(rb'\1"***"', text)


def _cleared(value: Any) -> Any:
    if isinstance(value, list):
        return [_cleared(one) for one in value]
    if not isinstance(value, dict):
        return value
    named = any(_SECRET.search(str(value.get(key, ""))) for key in ("name", "propertyName"))
    return {k: _shown(k, v, named) for k, v in value.items()}


def _shown(key: str, value: Any, named: bool) -> Any:
    hidden = _SECRET.search(key) or (named and key not in ("name", "propertyName"))
    return HIDDEN if hidden else _cleared(value)

"""What a setting may be, and how a text becomes it. Units declare with `Field`, `settings` reads; msgspec converts.

Not pydantic: that was 10 MB of every process, and a tenth of a second of its start.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

MASK = "(hidden)"
_MISSING: Any = object()


class SecretStr:
    """A text that shows itself only to who asks for it."""

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"SecretStr({MASK!r})"


@dataclass(frozen=True, slots=True)
class Kind:
    """In an Annotated: looks at a value of that kind, and gives it on; ValueError says what would be right."""

    checked: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a settings class."""

    default: Any
    description: str
    bounds: msgspec.Meta | None
    annotation: Any = None

    def read(self, value: Any) -> Any:
        """The value that `value`, a text or one of the right kind already, stands for. Raises ValueError."""
        base, kinds = _taken_apart(self.annotation)
        if isinstance(value, str) and get_origin(base) is dict:
            value = _json(value)
        wanted: Any = Annotated[base, self.bounds] if self.bounds else base
        try:
            value = msgspec.convert(value, wanted, strict=False, dec_hook=_made)
        except msgspec.ValidationError as e:
            raise ValueError(_said(base, str(e))) from None
        for kind in kinds:
            value = kind.checked(value)
        return value

    def shown(self, value: Any) -> str:
        """A value as the user may see it: no secret, no whole object (it may hold one), no password inside a URL."""
        if _taken_apart(self.annotation)[0] is SecretStr or isinstance(value, SecretStr | dict | list):
            return MASK
        return repr(re.sub(r"//[^/@\s]*@", f"//{MASK}@", value) if isinstance(value, str) else value)


def Field(
    default: Any = _MISSING,
    *,
    description: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    pattern: str | None = None,
    default_factory: Callable[[], Any] | None = None,
) -> Any:
    """A setting with its default, its bounds and its prose."""
    given = {"ge": ge, "gt": gt, "le": le, "pattern": pattern}
    bounds: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    first = default_factory() if default_factory is not None else default
    return Setting(first, description, msgspec.Meta(**bounds) if bounds else None)


def declared(cls: type, annotations: dict[str, Any]) -> dict[str, Setting]:
    """The fields that a class itself declares, each taken out of its namespace."""
    found = {name: value for name, value in vars(cls).items() if isinstance(value, Setting)}
    for name in found:
        delattr(cls, name)
    return {name: replace(setting, annotation=annotations[name]) for name, setting in found.items()}


def _taken_apart(annotation: Any) -> tuple[Any, tuple[Kind, ...]]:
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    base, *kinds = get_args(annotation)
    return base, tuple(kinds)


def _made(wanted: type, value: Any) -> Any:
    """What msgspec does not know."""
    if isinstance(value, wanted):
        return value
    if isinstance(value, str) and wanted in (Path, SecretStr):
        return wanted(value)
    raise msgspec.ValidationError(f"Expected `{wanted.__name__}`, got `{type(value).__name__}`")


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise ValueError("it must be JSON") from None


def _said(base: Any, text: str) -> str:
    """msgspec's words, without the value."""
    if get_origin(base) is Literal:
        return f"should be one of {', '.join(map(str, get_args(base)))}"
    return text.replace("Expected", "should be").partition(", got")[0]

"""Reading a device's configuration with errors that name the field: part of the driver SDK, used through `sdk`.

Numbers and flags may be written as such or as text; keys are found in any case, as KubeEdge's mappers find them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_FLAGS = {"true": True, "false": False, "1": True, "0": False}


class BadConfig(ValueError):
    """What a Device or DeviceModel says cannot be right. It stays so until a person changes it.

    `field` is the path in the manifest, `right` says what is wrong with it and what would be right.
    """

    def __init__(self, field: str, right: str) -> None:
        super().__init__(f"{field}: {right}")
        self.field = field
        self.right = right


@dataclass(frozen=True, slots=True, eq=False)
class Config(Mapping[str, object]):
    """A `configData` of a manifest. `path` is its place there and `owner` whose it is, for errors.

    Every reader raises BadConfig for what is missing (unless a default is given) or is not what it should be.
    """

    data: Mapping[str, object]
    path: str = "configData"
    owner: str = ""

    def text(self, name: str, default: str | None = None) -> str:
        """The text of `name`; a number is taken as its text."""
        value = self._value(name, default)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
        raise self.bad(name, f"{_said(value)} is not a text")

    def integer(self, name: str, default: int | None = None, *, least: int = 0, most: int = 2**31 - 1) -> int:
        """The whole number of `name`, between `least` and `most`."""
        value = self.number(name, default)
        if value != int(value) or not least <= value <= most:
            raise self.bad(name, f"{_said(self._value(name, default))} is not a whole number from {least} to {most}")
        return int(value)

    def number(self, name: str, default: float | None = None) -> float:
        """The finite number of `name`."""
        value = self._value(name, default)
        try:
            found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            found = math.nan
        if not math.isfinite(found):
            raise self.bad(name, f"{_said(value)} is not a number")
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._value(name, default)
        try:
            return _FLAGS[str(value).strip().lower()]
        except KeyError:
            raise self.bad(name, f"{_said(value)} is not true or false") from None

    def choice(self, name: str, choices: Mapping[str, T], default: str | None = None) -> T:
        """What `choices` has under the word of `name`, in any case."""
        value = self._value(name, default)
        for word, meaning in choices.items():
            if str(value).strip().lower() == word.lower():
                return meaning
        raise self.bad(name, f"{_said(value)} is none of {', '.join(choices)}")

    def field(self, name: str) -> str:
        """Where `name` stands in the manifest, as errors say it."""
        return f"{self.path}.{name}" + (f" of {self.owner}" if self.owner else "")

    def bad(self, name: str, right: str) -> BadConfig:
        """An error about `name`, to raise."""
        return BadConfig(self.field(name), right)

    def __getitem__(self, name: str) -> object:
        if name in self.data:
            return self.data[name]
        for key, value in self.data.items():
            if key.lower() == name.lower():
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def _value(self, name: str, default: object) -> object:
        value = self.get(name)
        if value is not None and value != "":
            return value
        if default is None:
            raise self.bad(name, "is missing")
        return default


def _said(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)

"""What is said about a wrong setting: its name, its variable, its value with secrets masked, what would be right.

Called by `settings` alone.
"""

import re
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic_core import ErrorDetails

NESTED = "__"
MASK = "(hidden)"

Model = type[BaseModel]


def prefix(unit: str) -> str:
    return f"CANOPY_{unit.upper().replace('-', '_')}_" if unit else "CANOPY_"


def variable(unit: str, *location: Any) -> str:
    return prefix(unit) + NESTED.join(str(part).upper() for part in location)


def sentence(unit: str, model: Model, detail: ErrorDetails) -> str:
    """One fault that pydantic found."""
    location, message = detail["loc"], detail["msg"].removeprefix("Value error, ")
    if not location:
        return message  # of the whole model; its input holds every secret
    value = shown(_annotation(model, location), detail["input"])
    where = f"{'.'.join(map(str, location))} ({variable(unit, *location)})"
    return f"{where} is {value}: {message}. {prose(model, str(location[0]))}".rstrip()


def unreadable(unit: str, model: Model, text: str) -> str:
    """A nested setting that is not JSON; `text` is pydantic-settings' own sentence, which names the field."""
    match = re.search(r'field "(\w+)"', text)
    if match is None:
        return text
    return f"{match[1]} ({variable(unit, match[1])}) is not readable: it must be JSON. {prose(model, match[1])}"


def prose(model: Model, name: str) -> str:
    field = model.model_fields.get(name)
    return (field.description or "") if field else ""


def shown(annotation: Any, value: Any) -> str:
    """The value as the user may see it: no secret, no whole object (it may hold one), no password inside a URL."""
    if annotation is SecretStr or SecretStr in get_args(annotation) or isinstance(value, SecretStr | dict | list):
        return MASK
    return repr(re.sub(r"//[^/@\s]*@", f"//{MASK}@", value) if isinstance(value, str) else value)


def _annotation(model: Model, location: tuple[Any, ...]) -> Any:
    field = model.model_fields.get(str(location[0]))
    inner = field.annotation if field else None
    if len(location) > 1 and isinstance(inner, type) and issubclass(inner, BaseModel):
        return _annotation(inner, location[1:])
    return inner

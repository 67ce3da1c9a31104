"""What the fleet API reads of a Node, or of any object that it only names. `fleet` and `whys` decode it."""

import msgspec


class Condition(msgspec.Struct, rename="camel"):
    type: str = ""
    status: str = ""
    last_transition_time: str | None = None


class Conditions(msgspec.Struct):
    conditions: list[Condition] = []


class Meta(msgspec.Struct):
    name: str = ""
    labels: dict[str, str] = {}


class Named(msgspec.Struct):
    metadata: Meta
    status: Conditions = msgspec.field(default_factory=Conditions)

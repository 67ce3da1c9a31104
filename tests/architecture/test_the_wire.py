"""What cannot be changed later is seen in review: rights, subjects, wire schemas. Write anew with CANOPY_SNAPSHOT=1."""

import json
from pathlib import Path

import msgspec
import pytest

from canopy.contracts import catalogue, identity_wire, roles, wire
from canopy.testing.golden import golden

MESSAGES = [*wire.all_messages(), *identity_wire.all_messages()]
SNAPSHOTS = Path(__file__).parent / "snapshots"


def test_every_right_of_every_unit_is_in_the_golden_table() -> None:
    golden(SNAPSHOTS / "roles.txt", roles.table())


def test_every_subject_is_in_the_golden_table() -> None:
    rows = [
        f"{s.pattern:54}{getattr(s.message, '__name__', ''):16}{getattr(s.answer, '__name__', '-'):18}{s.queue or '-'}"
        for s in catalogue.subjects().values()
    ]
    golden(SNAPSHOTS / "subjects.txt", "\n".join(rows) + "\n")


def test_the_wire_schemas_are_as_they_were() -> None:
    _, components = msgspec.json.schema_components(
        [m for m in MESSAGES if m is not wire.Message], ref_template="#/{name}"
    )
    for schema in components.values():
        schema.pop("description", None)
    golden(SNAPSHOTS / "wire.json", json.dumps(components, indent=1, sort_keys=True) + "\n")


@pytest.mark.parametrize("message", [m for m in MESSAGES if not m.__struct_config__.array_like])
def test_unknown_fields_are_passed_over(message: type[msgspec.Struct]) -> None:
    assert not message.__struct_config__.forbid_unknown_fields


def test_every_subject_that_is_served_has_an_answer_and_every_role_uses_the_catalogue() -> None:
    known = set(catalogue.subjects().values())
    for unit, role in roles.ROLES.items():
        for subject in (*role.says, *role.asks, *role.serves, *role.hears):
            assert subject in known, (unit, subject)
        for subject in (*role.asks, *role.serves):
            assert subject.answer is not None, (unit, subject.pattern)

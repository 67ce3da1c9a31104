"""What each unit asks of Kubernetes, read from its code: every call on `canopy.kube`, also those that it makes through
the library (an informer, an election, the cluster's uid)."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rendering import ROOT

from canopy.kube import resource
from canopy.kube.resource import Resource

KUBE = ROOT / "libs/canopy/kube"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
RESOURCES = {name: value for name, value in vars(resource).items() if isinstance(value, Resource)}
AS_ITS_CALLER = "cloudhub/adapters/"
"""Where a unit asks with the token of who asks it (`Access` gives it), and so needs no right of its own."""
THROUGH = {"Leading": "leader.py", "cluster_uid": "patient.py"}
"""What a unit takes from the library that asks in the unit's name, and the file that does."""


class Right(NamedTuple):
    """One verb on one kind, or on a part of it ("devices/status")."""

    group: str
    resource: str
    verb: str


def rights_of(unit: str) -> set[Right]:
    """All that the code of a unit asks."""
    folder = ROOT / "services/canopy" / unit
    files = [p for p in folder.rglob("*.py") if "tests" not in p.parts]
    return {right for path in files if AS_ITS_CALLER not in str(path) for right in _of_file(path)}


def _of_file(path: Path) -> Iterator[Right]:
    for call in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
        name = _name(call.func)
        if name in THROUGH:
            yield from _of_file(KUBE / THROUGH[name])
        elif name == "Informer":
            yield from (Right(r.group, r.plural, verb) for r in _resources(call.args[1], path) for verb in _informing())
        elif name in VERBS and _is_kube(call.func):
            part = _subresource(call)
            yield from (Right(r.group, r.plural + part, name) for r in _resources(call.args[0], path))


def _informing() -> set[str]:
    """What an informer does with its kind."""
    calls = (n for n in ast.walk(ast.parse((KUBE / "informer.py").read_text())) if isinstance(n, ast.Call))
    return {_name(c.func) for c in calls if _name(c.func) in VERBS and _is_kube(c.func)}


def _name(node: ast.expr) -> str:
    match node:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Subscript(value=inner):
            return _name(inner)
    return ""


def _is_kube(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and _name(function.value).endswith("kube")


def _resources(node: ast.expr, path: Path) -> list[Resource]:
    """The kinds that an argument may be. A kind that cannot be read here would hide a right."""
    match node:
        case ast.Name(id=name) if name in RESOURCES:
            return [RESOURCES[name]]
        case ast.IfExp(body=one, orelse=other):
            return _resources(one, path) + _resources(other, path)
    raise AssertionError(f"{path}:{node.lineno}: say the kind as one of canopy.kube.resource: {ast.unparse(node)}")


def _subresource(call: ast.Call) -> str:
    for keyword in call.keywords:
        if keyword.arg == "subresource" and isinstance(keyword.value, ast.Constant):
            return f"/{keyword.value.value}"
    return ""

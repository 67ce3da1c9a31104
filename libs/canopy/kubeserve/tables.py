"""Table output, as kubectl asks for it: the columns of a kind, one row an object. Pure; time is an argument."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from canopy.kubeserve import jsonpath
from canopy.kubeserve.kinds import Column, Kind
from canopy.kubeserve.status import Json

_ROLE = "node-role.kubernetes.io/"
_NAME: Json = {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}


def table(kind: Kind, bodies: Iterable[Json], include: str, now: datetime, meta: Json, columns: bool = True) -> Json:
    """A meta.k8s.io/v1 Table. `include` is None, Metadata or Object; a watch names the columns only once."""
    head = [_NAME, *(_definition(c) for c in kind.columns)] if columns else []
    rows = [_row(kind, body, include, now) for body in bodies]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": head, "rows": rows}


def _definition(column: Column) -> Json:
    shown = column.type if column.type in ("string", "integer", "number", "boolean", "date") else "string"
    return {
        "name": column.name,
        "type": "string" if shown == "date" else shown,
        "format": "",
        "description": column.description,
        "priority": column.priority,
    }


def _row(kind: Kind, body: Json, include: str, now: datetime) -> Json:
    row: Json = {"cells": [body["metadata"]["name"], *(_cell(c, body, now) for c in kind.columns)]}
    if include == "Object":
        row["object"] = body
    elif include != "None":
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        row["object"] = partial | {"metadata": body["metadata"]}
    return row


def _cell(column: Column, body: Json, now: datetime) -> Any:
    found = jsonpath.find(body, column.path)
    match column.type:
        case "node-status":
            return _node_status(body, found)
        case "node-roles":
            labels = found[0] if found else {}
            return ",".join(sorted(k.removeprefix(_ROLE) for k in labels if k.startswith(_ROLE))) or "<none>"
        case "count":
            return str(len(found[0])) if found else "0"
        case "date":
            return age(found[0], now) if found and found[0] else "<unknown>"
        case "integer" | "number" | "boolean":
            return found[0] if found else None
    return ",".join(_text(f) for f in found)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _node_status(body: Json, found: list[Any]) -> str:
    ready = {"True": "Ready", "False": "NotReady"}.get(found[0] if found else "", "Unknown")
    if found and found[0] == "Unknown":
        ready = "NotReady"  # as Kubernetes shows a node that was not heard of
    return ready + (",SchedulingDisabled" if body.get("spec", {}).get("unschedulable") else "")


def age(since: str, now: datetime) -> str:
    """How long ago, in kubectl's words ("5m", "3h20m", "12d")."""
    try:
        seconds = int((now - datetime.fromisoformat(since)).total_seconds())
    except (ValueError, TypeError):
        return "<invalid>"
    return _duration(max(seconds, 0))


_STEPS = (
    # below this many seconds: big unit, small unit (0: none) and their letters
    (120, 1, 0, "s", ""),
    (600, 60, 1, "m", "s"),
    (3 * 3600, 60, 0, "m", ""),
    (8 * 3600, 3600, 60, "h", "m"),
    (48 * 3600, 3600, 0, "h", ""),
    (8 * 86400, 86400, 3600, "d", "h"),
    (2 * 365 * 86400, 86400, 0, "d", ""),
    (8 * 365 * 86400, 365 * 86400, 86400, "y", "d"),
)


def _duration(seconds: int) -> str:
    for below, big, small, letter, second in _STEPS:
        if seconds < below:
            rest = seconds % big // small if small else 0
            return f"{seconds // big}{letter}" + (f"{rest}{second}" if rest else "")
    return f"{seconds // (365 * 86400)}y"

"""`canopy trace [DEVICE|TRACE_ID]`: one trace from device to Kubernetes as a tree, or the last traces of the fleet."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from canopy.cli.api import FleetApi
from canopy.cli.failure import EXIT_CODES, NOT_FOUND, Failure
from canopy.cli.output import Output, OutputOption, clock, line, print_json, shown, table
from canopy.cli.target import TokenOption, UrlOption, find

HELP = f"""Show the last traces; of a DEVICE its last one, or the one named by its TRACE_ID, as a tree.

Each line is a piece of work of one unit: when it began after the first one, and how long it took. Times are those of
the machine that did it. A trace is kept for a while in memory; a few new ones a second are recorded on each unit, and
always that of `canopy device set`, of what a device reports with a `traceparent`, and of what such work leads to.

\b
Examples:
  canopy trace
  canopy trace default/light
  canopy trace 4bf92f3577b34da6a3ce929d0e0e4736 --output json

{EXIT_CODES}
"""
WhatArgument = Annotated[
    str, typer.Argument(metavar="[DEVICE|TRACE_ID]", help="[NAMESPACE/]NAME, or 32 hex digits; none: a list.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most traces in the list.")]
INDENT = "  "
NS_PER_MS = 1e6
_ID = re.compile(r"[0-9a-f]{32}")


def trace(
    what: WhatArgument = "",
    limit: LimitOption = 20,
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    with FleetApi(find(api_url, api_token)) as api:
        if not what:
            return _list(api.get("traces", limit=str(limit)), output)
        found = api.get(f"traces/{what if _ID.fullmatch(what) else _newest(api, what)}")
    print_json(found) if output is Output.JSON else _draw(found)


def _newest(api: FleetApi, device: str) -> str:
    name = device if "/" in device else f"default/{device}"
    traces = api.get("traces", device=name, limit="1")["traces"]
    if not traces:
        raise Failure(f"no trace of {name} is kept; `canopy device set` makes one", NOT_FOUND)
    return str(traces[0]["trace_id"])


def _list(found: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        return print_json(found)
    columns = ("trace", "began", "took", "spans", "errors", "devices", "first unit")
    table(columns, [_row(t) for t in found["traces"]])


def _row(t: dict[str, Any]) -> tuple[Any, ...]:
    devices = ", ".join(t["devices"][:3])
    began = clock(round(t["start_ns"] / NS_PER_MS))
    return (t["trace_id"], began, took(t["duration_ms"]), t["spans"], t["errors"] or "", devices, t["units"][0])


def _draw(found: dict[str, Any]) -> None:
    began = clock(round(found["start_ns"] / NS_PER_MS))
    line(shown(f"trace {found['trace_id']} of {', '.join(found['devices']) or 'no device'}, {began}"))
    table(("span", "unit", "at", "took", ""), drawn(found["tree"]))


def drawn(spans: Sequence[dict[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Rows of a tree, parents before children, each by when it began. A span whose parent is not there is a root."""
    known = {s["id"] for s in spans}
    children: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda s: (s["start_ns"], s["id"])):
        parent = span["parent"] if span["parent"] in known and span["parent"] != span["id"] else ""
        children.setdefault(parent, []).append(span)
    first = min((s["start_ns"] for s in spans), default=0)
    rows: list[tuple[str, str, str, str, str]] = []
    waiting = [(s, 0) for s in reversed(children.get("", []))]
    while waiting:  # no recursion: a node may say what it likes
        span, depth = waiting.pop()
        rows.append(_drawn(span, depth, first))
        waiting += [(s, depth + 1) for s in reversed(children.pop(span["id"], []))]
    return rows


def _drawn(span: dict[str, Any], depth: int, first: int) -> tuple[str, str, str, str, str]:
    unit = f"{span['unit']}@{span['node']}" if span["node"] else span["unit"]
    at = took((span["start_ns"] - first) / NS_PER_MS)
    error = f"error: {span['error']}" if span["error"] else " "
    return INDENT * depth + span["name"], unit, f"+{at}", took(span["duration_ms"]), error


def took(ms: float) -> str:
    """Milliseconds for people."""
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.1f} ms"

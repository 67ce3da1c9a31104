"""`canopy audit`: who was let in or refused, given or deprived of an identity, and why. Speaks to the fleet API."""

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from canopy.cli.api import FleetApi
from canopy.cli.deadletters import since_ms
from canopy.cli.failure import EXIT_CODES, NO_CONNECTION, Failure
from canopy.cli.output import Output, OutputOption, clock, line, print_json, shown, table
from canopy.cli.target import TokenOption, UrlOption, find

HELP = f"""Show the audit: every admission and refusal with its reason, join, provision, revocation and rotation.

\b
Examples:
  canopy audit
  canopy audit --since 24h --outcome refused
  canopy audit --node edge-1 --who default/light
  canopy audit --what revocation --output json
  canopy audit --follow

{EXIT_CODES}
"""
FOLLOW_SECONDS = 2.0
LATE_SECONDS = 120
"""How far back each look of --follow goes: a record is stored a little later than it was decided."""
MOST_REMEMBERED = 20_000
COLUMNS = ("at", "what", "outcome", "who", "subject", "from", "by", "why")

NodeOption = Annotated[str, typer.Option("--node", help="Only what this node decided.")]
UnitOption = Annotated[str, typer.Option("--unit", help="Only what this unit decided.")]
WhoOption = Annotated[str, typer.Option("--who", help="Only where this stands in who or subject.")]
WhatOption = Annotated[str, typer.Option("--what", help="Only these: admission, join, provision, revocation ...")]
OutcomeOption = Annotated[str, typer.Option("--outcome", help="Only these: ok, refused.")]
SinceOption = Annotated[str, typer.Option("--since", metavar="AGE", help="Only since then: 90s, 30m, 2h, 7d.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=2000, help="Most in the list.")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Show what comes, until Ctrl-C.")]


def audit(
    node: NodeOption = "",
    unit: UnitOption = "",
    who: WhoOption = "",
    what: WhatOption = "",
    outcome: OutcomeOption = "",
    since: SinceOption = "",
    limit: LimitOption = 100,
    follow: FollowOption = False,
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    filters = {"node": node, "unit": unit, "who": who, "what": what, "outcome": outcome, "since": since_ms(since)}
    with FleetApi(find(api_url, api_token)) as api:
        if follow:
            for record in followed(api, filters):
                print_json(record, indent=None) if output is Output.JSON else line("  ".join(_words(record)))
            return
        found = api.get("audit", limit=str(limit), **filters)
    if output is Output.JSON:
        return print_json(found)
    table(COLUMNS, [_row(record) for record in found["records"]])


def followed(api: FleetApi, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Each record once, the oldest first, and again when it is counted up; without end. Raises Failure."""
    known: dict[tuple[str, int], None] = {}
    start = filters["since"] or since_ms(f"{LATE_SECONDS}s")
    while True:
        found = _looked(api, {**filters, "since": start}, first=not known)
        for record in reversed(found):
            if (key := (record["id"], record["count"])) not in known:
                known[key] = None
                yield record
        while len(known) > MOST_REMEMBERED:
            del known[next(iter(known))]
        start = max(start, since_ms(f"{LATE_SECONDS}s"), key=int)
        time.sleep(FOLLOW_SECONDS)


def _looked(api: FleetApi, filters: Mapping[str, str], *, first: bool) -> list[dict[str, Any]]:
    """An outage after the first look is waited for."""
    try:
        found: list[dict[str, Any]] = api.get("audit", limit="2000", late="true", **filters)["records"]
        return found
    except Failure as failure:
        if first or failure.code != NO_CONNECTION:
            raise
        sys.stderr.write(f"canopy: {failure}; trying on\n")
        return []


def _row(record: Mapping[str, Any]) -> tuple[Any, ...]:
    by = f"{record['unit']} on {record['node']}" if record["node"] else record["unit"]
    what = record["what"] + (f" x{record['count']}" if record["count"] > 1 else "")
    at = clock(record["last"] or record["at"])
    return (at, what, record["outcome"], record["who"], record["subject"], record["where"], by, record["reason"])


def _words(record: Mapping[str, Any]) -> list[str]:
    return [shown(cell) for cell in _row(record)]

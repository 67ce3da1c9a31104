"""`canopy deadletters [list|show|purge]`: what units could not handle because of a bug. Speaks to the fleet API."""

import re
import sys
import time
from typing import Annotated, Any

import typer

from canopy.cli.api import FleetApi
from canopy.cli.failure import EXIT_CODES, UsageFailure
from canopy.cli.output import CONTROL_CHARACTERS, Output, OutputOption, clock, line, print_json, shown, table
from canopy.cli.target import TokenOption, UrlOption, find

HELP = f"""What units could not handle because of a bug, and set aside: nothing that came behind it was held up.

What to do about one: docs/runbooks/dead-letters.md.

\b
Examples:
  canopy deadletters
  canopy deadletters list --node edge-1 --since 2h
  canopy deadletters show 4bf92f3577b34da6
  canopy deadletters purge --unit devicetwin --yes

{EXIT_CODES}
"""
LIST_HELP = f"""List dead letters, the one that failed last first.

\b
Examples:
  canopy deadletters list
  canopy deadletters list --unit devicetwin --since 30m
  canopy deadletters list --output json

{EXIT_CODES}
"""
SHOW_HELP = f"""Show one dead letter with its body and traceback. Values that look like secrets were left out.

\b
Examples:
  canopy deadletters show 4bf92f3577b34da6
  canopy deadletters show 4bf92f3577b34da6 --output json

{EXIT_CODES}
"""
PURGE_HELP = f"""Purge one dead letter, or all that the filters name. One that fails again comes again.

\b
Examples:
  canopy deadletters purge 4bf92f3577b34da6
  canopy deadletters purge --node edge-1 --yes
  canopy deadletters purge --all

{EXIT_CODES}
"""
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
TEXT_CHARACTERS = 60
_SINCE = re.compile(r"(\d{1,9})([smhd])")

UnitOption = Annotated[str, typer.Option("--unit", help="Only of this unit.")]
NodeOption = Annotated[str, typer.Option("--node", help="Only of this node.")]
SinceOption = Annotated[str, typer.Option("--since", metavar="AGE", help="Only those that failed since: 90s, 30m, 2h.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=2000, help="Most in the list.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `canopy deadletters list` shows it.")]


def commands(group: typer.Typer) -> typer.Typer:
    group.command("list", help=LIST_HELP)(list_letters)
    group.command("show", help=SHOW_HELP)(show)
    group.command("purge", help=PURGE_HELP)(purge)

    group.callback(invoke_without_command=True)(_listed)
    group.info.help, group.info.no_args_is_help = HELP, False
    return group


def _listed(
    context: typer.Context,
    unit: UnitOption = "",
    node: NodeOption = "",
    since: SinceOption = "",
    limit: LimitOption = 100,
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    """Without a command it is a list; options before a command would be lost."""
    if context.invoked_subcommand is None:
        return list_letters(unit, node, since, limit, output, api_url, api_token)
    if unit or node or since:
        raise UsageFailure(f"--unit, --node, --since: say them behind {context.invoked_subcommand}")


def list_letters(
    unit: UnitOption = "",
    node: NodeOption = "",
    since: SinceOption = "",
    limit: LimitOption = 100,
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    filters = {"unit": unit, "node": node, "since": since_ms(since), "limit": str(limit)}
    with FleetApi(find(api_url, api_token)) as api:
        found = api.get("deadletters", **filters)
    if output is Output.JSON:
        return print_json(found)
    columns = ("id", "last", "count", "unit", "node", "source", "error")
    table(columns, [_row(letter) for letter in found["deadletters"]])


def show(
    id: IdArgument, output: OutputOption = Output.TABLE, api_url: UrlOption = "", api_token: TokenOption = ""
) -> None:
    with FleetApi(find(api_url, api_token)) as api:
        letter = api.get(f"deadletters/{_checked(id)}")
    if output is Output.JSON:
        return print_json(letter)
    where = f"{letter['unit']} on {letter['node']}" if letter["node"] else f"{letter['unit']} in the cloud"
    line(shown(f"dead letter {letter['id']} of {where}: {letter['source']}"))
    line(shown(f"{letter['error']}: {letter['text']}"))
    times = f"{letter['count']} times from {clock(letter['first'])} to {clock(letter['last'])}"
    line(shown(f"{times}; trace {letter['trace_id'] or 'none'}"))
    _section(f"body ({letter['body_bytes']} bytes)", _body(letter))
    _section("traceback", letter["traceback"].splitlines())


def purge(
    id: Annotated[str, typer.Argument(metavar="[ID]", help="Only this one.")] = "",
    unit: UnitOption = "",
    node: NodeOption = "",
    since: SinceOption = "",
    all_: Annotated[bool, typer.Option("--all", help="All of them, where no filter is given.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, also on a terminal.")] = False,
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    filters = {"unit": unit, "node": node, "since": since_ms(since)}
    if bool(id) == (any(filters.values()) or all_):
        raise UsageFailure("ID: say one ID, or filters (--unit, --node, --since), or --all")
    if not yes and not id:
        _ask_first()
    with FleetApi(find(api_url, api_token)) as api:
        done = api.delete(f"deadletters/{_checked(id)}") if id else api.delete("deadletters", **filters)
    if output is Output.JSON:
        return print_json(done)
    line(f"purged: {done['purged']}")


def since_ms(age: str) -> str:
    """30m, 2h ... as ms since 1970, in text; empty stays empty. Raises UsageFailure."""
    if not age:
        return ""
    match = _SINCE.fullmatch(age)
    if match is None:
        raise UsageFailure(f"--since is {age!r}: it should be a number with s, m, h or d, like 30m")
    return str(max(0, round((time.time() - int(match[1]) * SECONDS[match[2]]) * 1000)))


def _ask_first() -> None:
    """On a terminal only: a script means what it says."""

    if sys.stdin.isatty():
        typer.confirm("Purge these dead letters?", abort=True)


def _checked(id: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{16}", id):
        raise UsageFailure(f"ID is {id[:80]!r}: it should be 16 hex digits, as `canopy deadletters list` shows them")
    return id


def _row(letter: dict[str, Any]) -> tuple[Any, ...]:
    error = f"{letter['error']}: {letter['text']}"[:TEXT_CHARACTERS]
    last = clock(letter["last"])
    return (letter["id"], last, letter["count"], letter["unit"], letter["node"], letter["source"], error)


def _body(letter: dict[str, Any]) -> list[str]:
    text = letter["body_text"]
    return (text or "").splitlines() if text is not None else [f"base64 {letter['body']}"]


def _section(title: str, lines: list[str]) -> None:
    line(title)
    for text in lines:
        line(f"  {text.translate(CONTROL_CHARACTERS)}")

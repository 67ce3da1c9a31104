"""`canopy status`: the fleet on one screen. Speaks to the fleet API; the exit code says whether all is well."""

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from canopy.cli.api import FleetApi
from canopy.cli.failure import FAILED, NO_CONNECTION, Failure
from canopy.cli.output import Output, OutputOption, clock, line, print_json, shown, table
from canopy.cli.target import TokenOption, UrlOption, find
from canopy.cli.why import age, cut, since

HELP = """Show the fleet on one screen: cloud units, nodes and devices by state, until when identities last, what waits.

\b
Examples:
  canopy status
  canopy status --watch
  canopy status --output json

\b
Exit codes: 0 all is well, 1 something is not (or the question failed), 2 wrong usage, 4 no connection.
"""
WATCH_SECONDS = 2.0
MOST_LETTERS = 1000
CLEAR = "\x1b[H\x1b[2J"
WatchOption = Annotated[bool, typer.Option("--watch", help="Show it anew every 2 s, until Ctrl-C.")]


def status(
    watch: WatchOption = False,
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    with FleetApi(find(api_url, api_token)) as api:
        while True:
            found = asked(api)
            _show(found, output, watch)
            if not watch:
                break
            time.sleep(WATCH_SECONDS)
    if not found["well"]:
        raise typer.Exit(FAILED)


def asked(api: FleetApi) -> dict[str, Any]:
    """The status with the count of dead letters (None: this cloud keeps none, or does not show them to the caller)."""
    found: dict[str, Any] = api.get("status")
    try:
        letters: int | None = len(api.get("deadletters", limit=str(MOST_LETTERS))["deadletters"])
    except Failure as failure:
        if failure.code == NO_CONNECTION:
            raise
        letters = None
    return {**found, "dead_letters": letters, "well": found["well"] and not letters}


def _show(found: Mapping[str, Any], output: Output, watch: bool) -> None:
    if output is Output.JSON:
        return print_json(found, indent=None if watch else 2)
    if watch and sys.stdout.isatty():
        sys.stdout.write(CLEAR)
    draw(found, round(time.time() * 1000))


def draw(found: Mapping[str, Any], now: int) -> None:
    """One screen."""
    line("all is well" if found["well"] else "not all is well")
    table(("unit", "replicas", "leader", "state"), [_unit(unit) for unit in found["units"]])
    line(f"nodes: {_counts(found['nodes'])}")
    if found["troubled_nodes"]:
        table(("node", "state", "last heard", "why"), [_node(node, now) for node in found["troubled_nodes"]])
    for text in (*_rest(found), *_identities(found, now)):
        line(text)
    if found.get("identities_late"):
        late = [one for one in found["identities"] if one["late"]]
        table(("identity not renewed", "of", "lasts until"), [_late(one, now) for one in late])


def _unit(unit: Mapping[str, Any]) -> tuple[Any, ...]:
    leader = {True: "yes", False: "NONE", None: ""}[unit["leader"]]
    return (unit["unit"], unit["replicas"], leader, cut(unit["wrong"]) or "well")


def _node(node: Mapping[str, Any], now: int) -> tuple[Any, ...]:
    return (node["name"], node["state"], since(node["since"], now) or "never", cut(node["why"]))


def _rest(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"devices: {_counts(found['devices'])}"
    if count := found["troubled_devices_count"]:
        names = ", ".join(shown(name) for name in found["troubled_devices"][:5])
        yield f"  {count} in trouble: {names}{' ...' if count > 5 else ''} (canopy device why NAME)"
    yield f"waiting at the edge: {found['waiting']} states"
    if found["dead_letters"] is not None:
        yield f"dead letters: {found['dead_letters']}" + (" (canopy deadletters)" if found["dead_letters"] else "")
    yield f"versions: {_versions(found['versions'])}"


def _late(one: Mapping[str, Any], now: int) -> tuple[Any, ...]:
    ends = clock(one["until"])
    return (one["node"] or "the cloud", one["units"], ends if one["until"] > now else f"{ends} (over)")


def _identities(found: Mapping[str, Any], now: int) -> Iterator[str]:
    """Nothing where there are none, or from a cloud that does not say it yet."""
    if not found.get("identities_count"):
        return
    first = min(found["identities"], key=lambda one: one["until"])
    whose = " of ".join(shown(word) for word in (first["units"], first["node"] or "the cloud"))
    left = f"{age(first['until'] - now)} left" if first["until"] > now else "over"
    late = f"; {found['identities_late']} not renewed in time" if found["identities_late"] else ""
    until = f"{clock(first['until'])} ({left}: {whose})"
    yield f"identities: {found['identities_count']}, the first to end lasts until {until}{late}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {shown(state)}" for state, count in counts.items()) or "none"


def _versions(versions: Mapping[str, list[str]]) -> str:
    if len(versions) <= 1:
        return f"{shown(next(iter(versions), ''))} everywhere"
    return "; ".join(f"{shown(version)} ({', '.join(map(shown, who))})" for version, who in versions.items())

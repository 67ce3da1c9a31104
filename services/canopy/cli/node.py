"""`canopy node list`: the nodes that the fleet API knows, and whether they are heard."""

from typing import Any

import typer

from canopy.cli.api import FleetApi
from canopy.cli.failure import EXIT_CODES
from canopy.cli.output import Output, OutputOption, clock, print_json, table
from canopy.cli.target import TokenOption, UrlOption, find

HELP = f"""The nodes of the fleet.

\b
Examples:
  canopy node list
  canopy node list --output json

{EXIT_CODES}
"""
LIST_HELP = f"""List the nodes, whether they are online, and when they were last heard.

\b
Examples:
  canopy node list
  canopy node list --output json

{EXIT_CODES}
"""


def commands(group: typer.Typer) -> typer.Typer:
    group.command("list", help=LIST_HELP)(list_nodes)

    @group.callback()
    def nodes() -> None:
        """Keeps `list` a command of its own although it is the only one."""

    group.info.help = HELP
    return group


def list_nodes(output: OutputOption = Output.TABLE, api_url: UrlOption = "", api_token: TokenOption = "") -> None:
    with FleetApi(find(api_url, api_token)) as api:
        nodes = api.get("nodes")
    if output is Output.JSON:
        return print_json(nodes)
    table(("node", "ready", "online", "last heard", "version"), [_row(n) for n in nodes["nodes"]])


def _row(node: dict[str, Any]) -> tuple[Any, ...]:
    yes = {True: "yes", False: "no"}
    return (node["name"], yes[node["ready"]], yes[node["online"]], clock(node["last_heard"]), node["version"])

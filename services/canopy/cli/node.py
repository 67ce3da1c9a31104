"""`canopy node list|token|revoke|restore`: the nodes of the fleet, and who may be one. Speaks to the fleet API."""

import re
from typing import Annotated, Any

import typer

from canopy.cli.api import FleetApi
from canopy.cli.failure import EXIT_CODES, Failure, UsageFailure
from canopy.cli.output import Output, OutputOption, clock, line, print_json, table
from canopy.cli.target import TokenOption, UrlOption, find
from canopy.contracts.subject import BadToken, check_token

HELP = f"""The nodes of the fleet, and who may be one.

\b
Examples:
  canopy node list
  canopy node token edge-1
  canopy node revoke edge-1 --reason stolen

{EXIT_CODES}
"""
LIST_HELP = f"""List the nodes: whether they are online, when they were last heard, until when their identity lasts.

\b
Examples:
  canopy node list
  canopy node list --output json

{EXIT_CODES}
"""
TOKEN_HELP = f"""Make a token by which one machine may become this node, once. It is told here and never again.

For those who may create Nodes in Kubernetes. The machine uses it with `canopy join`; whoever reads the token first may
be the node, so hand it over like a password.

\b
Examples:
  canopy node token edge-1
  canopy node token edge-1 --ttl 2h
  canopy node token edge-1 --quiet > token
  canopy node token edge-1 --output json

{EXIT_CODES}
"""
REVOKE_HELP = f"""Cut a node off, now, and keep it out: its connections end within 10 s, and it renews nothing.

For those who may delete Nodes in Kubernetes. What runs on the node itself goes on: it only has no cloud any more.

\b
Examples:
  canopy node revoke edge-1 --reason "stolen in Graz"

{EXIT_CODES}
"""
RESTORE_HELP = f"""Let a revoked node in again. It comes back by itself, if it still has its key.

For those who may create Nodes in Kubernetes.

\b
Examples:
  canopy node restore edge-1 --reason "found again"

{EXIT_CODES}
"""
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGE = re.compile(r"(\d{1,7})([smhd])")
LEAST_SECONDS, MOST_SECONDS = 10, 7 * 86_400

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's name, as Kubernetes has it.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the audit and for whoever finds it so.")]


def commands(group: typer.Typer) -> typer.Typer:
    group.command("list", help=LIST_HELP)(list_nodes)
    group.command("token", help=TOKEN_HELP)(token)
    group.command("revoke", help=REVOKE_HELP)(revoke)
    group.command("restore", help=RESTORE_HELP)(restore)
    group.info.help = HELP
    return group


def list_nodes(output: OutputOption = Output.TABLE, api_url: UrlOption = "", api_token: TokenOption = "") -> None:
    with FleetApi(find(api_url, api_token)) as api:
        nodes, identities = api.get("nodes"), _identities(api)
    for node in nodes["nodes"]:
        node["identity"] = identities.get(node["name"])
    if output is Output.JSON:
        return print_json(nodes)
    columns = ("node", "ready", "online", "last heard", "version", "identity until")
    table(columns, [_row(n) for n in nodes["nodes"]])


def token(
    node: NodeArgument,
    ttl: Annotated[str, typer.Option("--ttl", metavar="AGE", help="How long it lasts: 90s, 10m, 2h.")] = "10m",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the token alone, for scripts.")] = False,
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    body = {"ttl_seconds": ttl_seconds(ttl)}
    with FleetApi(find(api_url, api_token)) as api:
        made = api.post(f"nodes/{_checked(node)}/token", body)
    if output is Output.JSON:
        return print_json(made)
    if quiet:
        return line(made["token"])
    line(f"a token for {node}, until {clock(made['expires_at'])}; on the machine that shall be it:")
    line(f"  canopy join --token {made['token']}")


def revoke(
    node: NodeArgument,
    reason: ReasonOption = "",
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    if not reason:
        raise UsageFailure("--reason: say why; whoever finds the node cut off will read it")
    _stand(node, "revoke", reason, output, api_url, api_token)


def restore(
    node: NodeArgument,
    reason: ReasonOption = "",
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    _stand(node, "restore", reason, output, api_url, api_token)


def ttl_seconds(age: str) -> int:
    """Raises UsageFailure."""
    match = _AGE.fullmatch(age)
    seconds = int(match[1]) * SECONDS[match[2]] if match else 0
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise UsageFailure(f"--ttl is {age!r}: it should be a number with s, m, h or d, like 10m, of 10s to 7d")
    return seconds


def _stand(node: str, what: str, reason: str, output: Output, api_url: str, api_token: str) -> None:
    with FleetApi(find(api_url, api_token)) as api:
        done = api.post(f"nodes/{_checked(node)}/{what}", {"reason": reason})
    if output is Output.JSON:
        return print_json(done)
    line(f"{node} is cut off and kept out" if done["revoked"] else f"{node} may come in again")


def _identities(api: FleetApi) -> dict[str, Any]:
    """By node; nothing while spire_integration is away."""
    try:
        return {one["node"]: one for one in api.get("identities")["identities"]}
    except Failure:
        return {}


def _row(node: dict[str, Any]) -> tuple[Any, ...]:
    yes = {True: "yes", False: "no"}
    facts = (node["name"], yes[node["ready"]], yes[node["online"]], clock(node["last_heard"]), node["version"])
    return (*facts, _until(node["identity"]))


def _until(identity: dict[str, Any] | None) -> str:
    if identity is None:
        return ""
    if identity["revoked_at"]:
        return f"revoked ({identity['reason']})" if identity["reason"] else "revoked"
    return clock(identity["not_after"])


def _checked(node: str) -> str:
    try:
        return check_token("node", node)
    except BadToken as e:
        raise UsageFailure(f"NODE: {e}; a node is named as in Kubernetes, like edge-7") from None

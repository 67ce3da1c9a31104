"""`canopy device list|get|set|watch|why`: devices, their live twins, what they should be. Speaks to the fleet API.

Their credentials are in `credentials`."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from canopy.cli import credentials, why
from canopy.cli.api import FleetApi
from canopy.cli.credentials import device_name
from canopy.cli.failure import EXIT_CODES, UsageFailure
from canopy.cli.following import follow
from canopy.cli.output import Output, OutputOption, clock, line, print_json, shown, table
from canopy.cli.target import TokenOption, UrlOption, find
from canopy.cli.waiting import wait_until_reported

NEWS = "Where the fleet API is: --api-url and --api-token, else CANOPY_API_URL and CANOPY_API_TOKEN, else the demo's."
HELP = f"""Devices, their live twins, and what they should be.

{NEWS}

\b
Examples:
  canopy device list
  canopy device get default/light
  canopy device set default/light switch=true --wait
  canopy device watch default/light
  canopy device why default/light
  canopy device provision default/light --out light

{EXIT_CODES}
"""
LIST_HELP = f"""List devices with what they report.

\b
Examples:
  canopy device list
  canopy device list --namespace default --node edge-1
  canopy device list --output json

{EXIT_CODES}
"""
GET_HELP = f"""Show one device: each property as it is, as it should be, and when the edge heard it.

\b
Examples:
  canopy device get default/light
  canopy device get light --output json

{EXIT_CODES}
"""
SET_HELP = f"""Say what properties of a device should be. Properties that are not named keep theirs.

\b
Examples:
  canopy device set default/light switch=true
  canopy device set default/light switch=true brightness=40 --wait

{EXIT_CODES}
"""
WATCH_HELP = f"""Show live twins as they change, until Ctrl-C: first all as they are, then each change.

\b
Examples:
  canopy device watch
  canopy device watch default/light
  canopy device watch --node edge-1 --output json

{EXIT_CODES}
"""

DeviceArgument = Annotated[str, typer.Argument(metavar="[NAMESPACE/]NAME", help="The device; namespace default.")]
NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Only of this namespace.")]
NodeOption = Annotated[str, typer.Option("--node", help="Only of this node.")]
Assignments = Annotated[list[str], typer.Argument(metavar="PROPERTY=VALUE...", help="What should be.")]


def commands(group: typer.Typer) -> typer.Typer:
    for name, text, function in (
        ("list", LIST_HELP, list_devices),
        ("get", GET_HELP, get_device),
        ("set", SET_HELP, set_device),
        ("watch", WATCH_HELP, watch_devices),
        ("why", why.HELP, why_device),
        ("provision", credentials.PROVISION_HELP, credentials.provision),
        ("token", credentials.TOKEN_HELP, credentials.token),
        ("revoke", credentials.REVOKE_HELP, credentials.revoke),
    ):
        group.command(name, help=text)(function)
    return group


def list_devices(
    namespace: NamespaceOption = "",
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    with FleetApi(find(api_url, api_token)) as api:
        found = api.get("devices", namespace=namespace, node=node)
    if output is Output.JSON:
        return print_json(found)
    rows = [(full_name(d), d["node"], d["state"], reported(d["twin"])) for d in found["devices"]]
    table(("device", "node", "state", "reported"), rows)


def get_device(
    device: DeviceArgument, output: OutputOption = Output.TABLE, api_url: UrlOption = "", api_token: TokenOption = ""
) -> None:
    namespace, name = device_name(device)
    with FleetApi(find(api_url, api_token)) as api:
        found = api.get(f"devices/{namespace}/{name}")
    if output is Output.JSON:
        return print_json(found)
    online = clock((found["twin"] or {}).get("last_online"))
    line(f"{full_name(found)} on {shown(found['node'])}: {shown(found['state'])}, last online {shown(online)}")
    table(("property", "type", "access", "reported", "expected", "desired", "heard"), _properties(found))
    for problem in (found["twin"] or {}).get("problems", []):
        about = f"{shown(problem['property'])}: " if problem["property"] else ""
        line(f"{shown(problem['code'])} since {clock(problem['since'])}: {about}{shown(problem['reason'])}")


def set_device(
    device: DeviceArgument,
    values: Assignments,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the device reports these values.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait with --wait; then exit code 1.")
    ] = 30.0,
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    namespace, name = device_name(device)
    wanted = assignments(values)
    with FleetApi(find(api_url, api_token)) as api:
        found = api.put(f"devices/{namespace}/{name}/desired", wanted)
        seconds = wait_until_reported(api, namespace, name, wanted, timeout) if wait else None
    if output is Output.JSON:
        return print_json(found if seconds is None else {**found, "reported_after_seconds": round(seconds, 3)})
    said = " ".join(f"{k}={shown(v)}" for k, v in wanted.items())
    line(
        f"{namespace}/{name}: should be {said}"
        if seconds is None
        else f"{namespace}/{name}: is {said} after {seconds:.2f} s"
    )


def watch_devices(
    device: Annotated[str, typer.Argument(metavar="[[NAMESPACE/]NAME]", help="Only this device.")] = "",
    namespace: NamespaceOption = "",
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    name = ""
    if device:
        namespace, name = device_name(device)
    with FleetApi(find(api_url, api_token)) as api:
        for twin in follow(api, namespace=namespace, name=name, node=node):
            if output is Output.JSON:
                print_json(twin, indent=None)
            else:
                line(f"{clock(twin['received'])}  {full_name(twin)}  {shown(twin['state'])}  {reported(twin)}")


def why_device(
    device: DeviceArgument, output: OutputOption = Output.TABLE, api_url: UrlOption = "", api_token: TokenOption = ""
) -> None:
    why.why(*device_name(device), output, api_url, api_token)


def assignments(values: Sequence[str]) -> dict[str, str]:
    """PROPERTY=VALUE to a dict. Raises UsageFailure."""
    found: dict[str, str] = {}
    for given in values:
        name, equals, value = given.partition("=")
        if not equals or not name:
            raise UsageFailure(f"PROPERTY=VALUE is {given!r}: it should be like switch=true")
        if name in found:
            raise UsageFailure(f"PROPERTY=VALUE: {name} is set twice; once is right")
        found[name] = value
    return found


def full_name(device: dict[str, Any]) -> str:
    return f"{shown(device['namespace'])}/{shown(device['name'])}"


def reported(twin: dict[str, Any] | None) -> str:
    """What a twin reports, on one line; what it should be instead stands behind an arrow."""
    return "  ".join(_property(name, t) for name, t in (twin["twins"] if twin else {}).items())


def _property(name: str, twin: dict[str, Any]) -> str:
    is_, should = _value(twin, "reported"), _value(twin, "expected")
    arrow = f"->{shown(should)}" if should and should != is_ else ""
    return f"{shown(name)}={shown(is_ or '?')}{arrow}"


def _value(twin: dict[str, Any], side: str) -> str:
    return str((twin.get(side) or {}).get("value", ""))


def _properties(device: dict[str, Any]) -> list[tuple[Any, ...]]:
    declared = {p["name"]: p for p in device["properties"]}
    twins = device["twin"]["twins"] if device["twin"] else {}
    return [_row(name, declared.get(name, {}), twins.get(name, {})) for name in sorted({**declared, **twins})]


def _row(name: str, declared: dict[str, Any], twin: dict[str, Any]) -> tuple[Any, ...]:
    heard = clock((twin.get("reported") or {}).get("timestamp"))
    kind = declared.get("type") or twin.get("type")
    is_, should = _value(twin, "reported"), _value(twin, "expected")
    return (name, kind, declared.get("access_mode"), is_, should, declared.get("desired"), heard)

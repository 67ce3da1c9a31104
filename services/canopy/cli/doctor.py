"""`canopy doctor`: what is well on this machine and what is not, on one screen, each with what to try.

Looks and dials only; nothing is changed, and no secret is shown. The exit code says whether anything is wrong.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from canopy.cli import doctor_dial as dial
from canopy.cli import doctor_files as files
from canopy.cli.api import FleetApi
from canopy.cli.credentials import USUAL
from canopy.cli.doctor_core import node_findings
from canopy.cli.doctor_facts import Dialled, Finding, NodeFacts
from canopy.cli.doctor_fleet import fleet_findings
from canopy.cli.failure import FAILED, Failure
from canopy.cli.output import Output, OutputOption, line, print_json, shown, table
from canopy.cli.status import asked
from canopy.cli.target import URL_VARIABLE, Target, TokenOption, UrlOption, demo_endpoints, find
from canopy.cli.why import cut
from canopy.identity import ids

HELP = """Say what is well on this machine and what is not, each with what to try.

On a node: its join, certificates, keys, clock and disk, and whom it reaches; and the fleet, where its API is known.
Nothing is changed. On a node as root, or as the user of edgeidentity.

\b
Examples:
  canopy doctor
  canopy doctor --dir /var/lib/canopy
  canopy doctor --output json

\b
Exit codes: 0 nothing is wrong, 1 something is (or there is nothing to look at), 2 wrong usage.
"""
WORDS = {"ok": "ok", "wrong": "WRONG", "unknown": "?"}
FLEET_SECONDS = 2.0
NOT_KNOWN = "no certificate of the leaf and of a unit is there to ask with"
FolderOption = Annotated[
    str, typer.Option("--dir", help="Folder of the node, as canopy join has it; else the usual places, or the demo's.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """A node on the disk: CANOPY_DATA_DIR of its units, and what edgeidentity keeps."""

    data: Path
    identity: Path


def doctor(
    folder: FolderOption = "",
    output: OutputOption = Output.TABLE,
    api_url: UrlOption = "",
    api_token: TokenOption = "",
) -> None:
    place = _place(folder)
    target = find(api_url, api_token) if api_url or demo_endpoints(Path.cwd()) else None
    if place is None and target is None:
        raise Failure(
            f"there is nothing to look at: no node in {', '.join(_usual())} (say --dir), and no fleet API (say "
            f"--api-url, or set {URL_VARIABLE})"
        )
    if not asyncio.run(_examined(place, target, output)):
        raise typer.Exit(FAILED)


async def _examined(place: Place | None, target: Target | None, output: Output) -> bool:
    """Look at both side by side, show it at once (what is still being resolved may take longer to end)."""
    looks = [_node(place)] if place else []
    looks += [_fleet(target)] if target else []
    looked = await asyncio.gather(*looks)
    where = ", ".join(name for name, _ in looked)
    findings = [finding for _, found in looked for finding in found]
    well = all(finding.verdict != "wrong" for finding in findings)
    if output is Output.JSON:
        print_json({"well": well, "where": where, "findings": [asdict(finding) for finding in findings]})
    else:
        draw(where, findings, fleet=target is not None)
    return well


def draw(where: str, findings: Sequence[Finding], fleet: bool) -> None:
    """One screen."""
    wrong = [finding for finding in findings if finding.verdict == "wrong"]
    unknown = [finding.check for finding in findings if finding.verdict == "unknown"]
    good = f"nothing is wrong; not known: {', '.join(unknown)}" if unknown else "all is well"
    line(f"{shown(where)}: {'wrong: ' + ', '.join(one.check for one in wrong) if wrong else good}")
    table(("", "check", "what"), [(WORDS[one.verdict], one.check, cut(one.text)) for one in findings])
    for finding in wrong:
        line("")
        line(f"{finding.check}: {shown(finding.text)}")
        for text in finding.tries:
            line(f"  - {shown(text)}")
    if not fleet:
        line(f"(the fleet was not asked: --api-url, or {URL_VARIABLE})")


# --- a node -------------------------------------------------------------------------------------------------------
async def _node(place: Place) -> tuple[str, Sequence[Finding]]:
    if not _open(place.identity):
        text = f"{place.identity} is for its owner alone, and cannot be looked at"
        return str(place.data), [Finding("node", "wrong", text, (f"sudo canopy doctor --dir {place.data}",))]
    facts = await _facts(files.read(place.data, place.identity), time.time())
    return f"{facts.node or 'no node'} in {facts.folder}", node_findings(facts, time.time())


async def _facts(found: files.Read, now: float) -> NodeFacts:
    urls = found.state.urls if found.state else ()
    join, hub, ((leaf, linked), gateway, admin) = await asyncio.gather(
        asyncio.gather(*(dial.join_endpoint(found.state, url) for url in urls if found.state)),
        asyncio.gather(*_hub(found)),
        asyncio.gather(_leaf(found), _gateway(found), dial.admin(found.folders.root / "admin.sock")),
    )
    count, loose = files.keys(found)
    link = files.link(found, now)
    return NodeFacts(
        folder=str(found.data),
        node=found.state.node if found.state else link.id.rpartition("/")[2],
        not_joined=found.not_joined,
        given=found.state is None and bool(link.id),
        configured=found.config is not None,
        link=link,
        roots=files.roots(found),
        units=files.units(found, now),
        loose=loose,
        keys=count,
        join=tuple(join),
        hub=tuple(hub),
        leaf=leaf,
        linked=linked,
        gateway=gateway,
        admin=admin,
        disks=files.disks(found),
    )


def _hub(found: files.Read) -> list[Awaitable[Dialled]]:
    if found.link is None or found.config is None:
        return []
    hub = ids.hub(found.link.svid.id.trust_domain)
    return [dial.nats(address, found.link, hub) for address in found.config.hubs]


async def _leaf(found: files.Read) -> tuple[Dialled, bool | None]:
    """And whether it has its link, if it is well."""
    address = found.config.leaf if found.config else ""
    if found.unit is None or found.server is None:
        return Dialled(address, NOT_KNOWN), None
    leaf = found.server.svid.id
    dialled = await dial.nats(address, found.unit, leaf)
    linked = None if dialled.fault else await dial.linked(address, found.folders.unit(dial.EDGEHUB), leaf)
    return dialled, linked


async def _gateway(found: files.Read) -> Dialled:
    address = found.config.gateway if found.config else ""
    if found.unit is None or found.server is None:
        return Dialled(address, NOT_KNOWN)
    return await dial.mqtt(address, found.unit, found.server.svid.id)


def _open(folder: Path) -> bool:
    try:
        return not folder.exists() or os.access(folder, os.R_OK | os.X_OK)
    except PermissionError:
        return False


def _place(folder: str) -> Place | None:
    """A named one even if nothing is there; else the first that is."""
    if named := folder or os.environ.get("CANOPY_DATA_DIR", ""):
        return _in(Path(named))
    demo = (demo_endpoints(Path.cwd()) or {}).get("admin_socket")
    places = [_in(Path(usual)) for usual in _usual()] + ([_in(Path(demo).parent.parent)] if demo else [])
    return next((place for place in places if _there(place.identity)), None)


def _in(folder: Path) -> Place:
    identity = os.environ.get("CANOPY_EDGEIDENTITY_FOLDER", "")
    return Place(folder.absolute(), Path(identity) if identity else folder.absolute() / "identity")


def _usual() -> tuple[str, ...]:
    return (".canopy", *USUAL)


def _there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except PermissionError:
        return True


# --- the fleet ----------------------------------------------------------------------------------------------------
async def _fleet(target: Target) -> tuple[str, Sequence[Finding]]:
    where = f"the fleet at {target.url}"
    try:
        async with asyncio.timeout(FLEET_SECONDS):
            return where, fleet_findings(await asyncio.to_thread(_status, target), time.time())
    except TimeoutError:
        text = f"no answer from {target.url} within {FLEET_SECONDS:g} s"
    except Failure as failure:
        text = str(failure)
    tries = ("is CloudHub up, is the address right? canopy status", f"{URL_VARIABLE}, or --api-url")
    return where, [Finding("fleet", "wrong", text, tries)]


def _status(target: Target) -> dict[str, Any]:
    with FleetApi(target, FLEET_SECONDS) as api:
        return asked(api)

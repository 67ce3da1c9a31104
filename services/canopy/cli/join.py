"""`canopy join`: makes this machine a node, in one command; with --start it runs the node too."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from canopy.cli import joined
from canopy.cli.failure import EXIT_CODES, FAILED, NO_CONNECTION, Failure, UsageFailure
from canopy.cli.joined import Place
from canopy.cli.output import Output, OutputOption, line, print_json
from canopy.contracts.subject import BadToken, check_token
from canopy.contracts.times import rfc3339
from canopy.identity.identity import Identity
from canopy.identity.join import FAILURES, Credential, join
from canopy.identity.joining_http import BadUrl, JoinRefused, Unreachable, urls_of
from canopy.identity.joining_words import BadJoinToken, Token, parse
from canopy.identity.joinstate import JoinState, NotJoined, OtherNode

HELP = f"""Make this machine a node: once, by a token that `canopy node token NODE` printed, or by the certificate that
its manufacturer put into it. The node's key is made here and stays here; certificates are short and renew themselves.

URL is the join endpoint; a token that says it needs none. With --start the node runs too, until Ctrl-C: its NATS
server, edgeidentity and all edge units. The same command without a token starts a machine that has joined.

\b
Examples:
  canopy join --token canopy-join.eyJub2Rl...
  canopy join https://hub.example:8443 --token-file /run/token --dir /var/lib/canopy --start
  canopy join https://hub.example:8443 --node edge-7 --certificate idevid.pem --key idevid.key --root 9f86d08...
  canopy join --start --dir /var/lib/canopy

{EXIT_CODES}
"""
TOKEN_VARIABLE = "CANOPY_JOIN_TOKEN"  # noqa: S105 - a name


Say = Callable[[str, str], None]


def command(
    url: Annotated[str, typer.Argument(metavar="[URL]", help="The join endpoint: https://HOST:PORT.")] = "",
    token: Annotated[str, typer.Option("--token", envvar=TOKEN_VARIABLE, help="As canopy node token printed it.")] = "",
    token_file: Annotated[str, typer.Option("--token-file", help="A file that holds it; - is standard input.")] = "",
    folder: Annotated[str, typer.Option("--dir", help="Folder of everything of this node.")] = ".canopy",
    hub: Annotated[str, typer.Option("--hub", help="Where the hub takes leaves: tls://HOST:7422.")] = "",
    node: Annotated[str, typer.Option("--node", help="The node's name, with --certificate.")] = "",
    certificate: Annotated[
        str, typer.Option("--certificate", help="The manufacturer's certificate: a PEM chain.")
    ] = "",
    key: Annotated[str, typer.Option("--key", help="Its key (PEM).")] = "",
    root: Annotated[str, typer.Option("--root", help="SHA-256 of the fleet's join root, with --certificate.")] = "",
    start: Annotated[bool, typer.Option("--start", help="Run the node, until Ctrl-C.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    place, say = Place(Path(folder).absolute()), _teller(output)
    token = token or _read_token(token_file)
    if token or certificate:
        found = _by_token(token, url, hub) if token else _by_certificate(url, hub, node, certificate, key, root)
        identity = _joined(place, found, say)
        joined.write_settings(place, found.node, identity.svid.id.trust_domain, found.hub)
    elif not start:
        raise UsageFailure("--token: say a join token (canopy node token NODE prints one), or --certificate")
    state = _state(place)
    _told(place, state, start, output)
    if start:
        from canopy.cli.starting import run_node  # only here: it brings what runs a node

        asyncio.run(run_node(place, say))


class _Way:
    """How this machine joins."""

    def __init__(self, node: str, urls: tuple[str, ...], hub: str, root: str, credential: Credential) -> None:
        self.node, self.urls, self.hub, self.root, self.credential = node, urls, hub, root, credential


def _by_token(text: str, url: str, hub: str) -> _Way:
    try:
        token: Token = parse(text.strip())
    except BadJoinToken as e:
        raise UsageFailure(f"--token: {e}") from None
    return _Way(token.node, _urls(url or token.url), hub or token.hub, token.root, Credential(token.id, token.secret))


def _by_certificate(url: str, hub: str, node: str, certificate: str, key: str, root: str) -> _Way:
    for option, value in (("--node", node), ("--key", key), ("--root", root)):
        if not value:
            raise UsageFailure(f"{option}: goes with --certificate")
    try:
        check_token("node", node)
    except BadToken as e:
        raise UsageFailure(f"--node: {e}") from None
    chain, private = _read("--certificate", certificate), _read("--key", key)
    return _Way(node, _urls(url), hub, root.lower().replace(":", ""), Credential(chain_pem=chain, key_pem=private))


def _joined(place: Place, way: _Way, say: Say) -> Identity:
    try:
        return asyncio.run(join(place.join, way.node, way.urls, way.root, way.credential, say))
    except OtherNode as e:
        raise UsageFailure(f"--dir: {e}") from None
    except JoinRefused as e:
        raise Failure(f"refused ({e.error}): {e}") from None
    except Unreachable as e:
        raise Failure(str(e), NO_CONNECTION) from None
    except (*FAILURES, ValueError) as e:
        raise Failure(str(e), FAILED) from None
    except OSError as e:
        raise Failure(f"--dir: {e}", FAILED) from None


def _state(place: Place) -> JoinState:
    try:
        return JoinState.read(place.join)
    except NotJoined as e:
        raise Failure(str(e)) from None


def _told(place: Place, state: JoinState, start: bool, output: Output) -> None:
    kept = state.kept()
    until = rfc3339(round(kept.svid.not_after * 1000)) if kept else ""
    run = joined.commands(place)
    if output is Output.JSON:
        id = str(kept.svid.id) if kept else ""
        facts = {"step": "ready", "node": state.node, "id": id, "certificate_until": until, "dir": str(place.folder)}
        return print_json(facts | {"settings": str(place.settings), "run": run}, indent=None)
    line(f"{state.node} is joined; its certificate lasts until {until} and renews itself while edgeidentity runs")
    if not start:
        line("run the node with:")
        line(f"  canopy join --start --dir {place.folder}")
        line("or each by your own service manager:")
        for text in run:
            line(f"  {text}")


def _teller(output: Output) -> Say:
    def say(step: str, text: str) -> None:
        if output is Output.JSON:
            return print_json({"step": step, "text": text}, indent=None)
        line(f"{step:10}{text}")

    return say


def _urls(text: str) -> tuple[str, ...]:
    try:
        return urls_of(text)
    except BadUrl as e:
        raise UsageFailure(f"URL: {e}") from None


def _read_token(file: str) -> str:
    if not file:
        return ""
    return (
        typer.get_text_stream("stdin").read() if file == "-" else _read("--token-file", file).decode("utf-8", "replace")
    )


def _read(option: str, file: str) -> bytes:
    if not os.access(file, os.R_OK) or not Path(file).is_file():
        raise UsageFailure(f"{option}: {file!r} is no file that can be read")
    return Path(file).read_bytes()

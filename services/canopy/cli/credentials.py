"""`canopy device provision|revoke|token`: credentials of a device, on its node, from edgeidentity's admin socket."""

import asyncio
import getpass
import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from canopy.cli.failure import EXIT_CODES, FAILED, NO_CONNECTION, NOT_FOUND, Failure, UsageFailure
from canopy.cli.gateway import topic
from canopy.cli.output import Output, OutputOption, line, print_json
from canopy.cli.target import demo_endpoints
from canopy.contracts import admin as words
from canopy.contracts import catalogue as c
from canopy.contracts.admin import AdminAnswer, AdminAsk
from canopy.contracts.times import rfc3339
from canopy.identity import ids
from canopy.identity.admin import AdminAway, ask
from canopy.identity.private import write_private
from canopy.identity.svid import Bundle, make_csr, new_key

WHERE = "On the node that has the device, as root or as the user of edgeidentity; no cloud is needed."
PROVISION_HELP = f"""Give a device its credentials: cert.pem, key.pem and ca.pem, and a line to try them.

{WHERE} The key is made here and stays in DIR.

\b
Examples:
  canopy device provision default/light --out light
  canopy device provision default/light --out light --ttl 720h
  canopy device provision default/light --out light --output json

{EXIT_CODES}
"""
TOKEN_HELP = f"""Give a device that cannot have a certificate a password (told once), and ca.pem.

{WHERE} It logs in over TLS as user NAMESPACE/NAME; the former password is worth nothing from now on.

\b
Examples:
  canopy device token default/light --out light
  canopy device token default/light --ttl 90d --output json

{EXIT_CODES}
"""
REVOKE_HELP = f"""Make every certificate and password of a device worth nothing, at once, and cut it off.

{WHERE} `canopy device provision` and `canopy device token` let it in again, with new ones.

\b
Examples:
  canopy device revoke default/light --reason stolen

{EXIT_CODES}
"""
SOCKET_VARIABLE = "CANOPY_ADMIN_SOCKET"
USUAL = ("/var/lib/canopy/edge", "/var/lib/canopy")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TTL = re.compile(r"(\d{1,9})([smhd])")
CERT, KEY, CA = "cert.pem", "key.pem", "ca.pem"
CODES = {words.NOT_FOUND: NOT_FOUND, words.REFUSED: FAILED, words.AWAY: NO_CONNECTION}

DeviceArgument = Annotated[str, typer.Argument(metavar="[NAMESPACE/]NAME", help="The device; namespace default.")]
OutOption = Annotated[str, typer.Option("--out", metavar="DIR", help="Folder of the files; else NAMESPACE.NAME here.")]
TtlOption = Annotated[str, typer.Option("--ttl", metavar="AGE", help="How long they last: 12h, 720h, 90d.")]
SocketOption = Annotated[
    str, typer.Option("--socket", envvar=SOCKET_VARIABLE, help="edgeidentity's admin socket; else the usual places.")
]


def provision(
    device: DeviceArgument,
    out: OutOption = "",
    ttl: TtlOption = "720h",
    output: OutputOption = Output.TABLE,
    socket: SocketOption = "",
) -> None:
    namespace, name = device_name(device)
    path, seconds, folder = _socket(socket), ttl_seconds(ttl), Path(out or f"{namespace}.{name}")
    key = new_key()
    who = _asked(path, words.WhoAsk(namespace=namespace, name=name))
    csr = make_csr(key, ids.parse(who.id)).decode()
    given = _asked(
        path, words.ProvisionAsk(namespace=namespace, name=name, csr=csr, ttl_seconds=seconds, by=_operator())
    )
    _write(folder, {KEY: key, CERT: given.chain.encode(), CA: roots(given)})
    tls = " ".join(f"--{o} {shlex.quote(str(folder / f))}" for o, f in (("cafile", CA), ("cert", CERT), ("key", KEY)))
    _told(given, f"{namespace}/{name}", folder, (CERT, KEY, CA), mosquitto(given, namespace, name, tls), output)


def token(
    device: DeviceArgument,
    out: OutOption = "",
    ttl: TtlOption = "720h",
    output: OutputOption = Output.TABLE,
    socket: SocketOption = "",
) -> None:
    namespace, name = device_name(device)
    path, seconds, folder = _socket(socket), ttl_seconds(ttl), Path(out or f"{namespace}.{name}")
    given = _asked(path, words.DeviceTokenAsk(namespace=namespace, name=name, ttl_seconds=seconds, by=_operator()))
    _write(folder, {CA: roots(given)})
    login = f"--cafile {shlex.quote(str(folder / CA))} -u {namespace}/{name} -P {shlex.quote(given.token)}"
    _told(given, f"{namespace}/{name}", folder, (CA,), mosquitto(given, namespace, name, login), output)


def revoke(
    device: DeviceArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit.")] = "",
    output: OutputOption = Output.TABLE,
    socket: SocketOption = "",
) -> None:
    namespace, name = device_name(device)
    given = _asked(
        _socket(socket), words.DeviceRevokeAsk(namespace=namespace, name=name, reason=reason, by=_operator())
    )
    if output is Output.JSON:
        return print_json({"device": f"{namespace}/{name}", "revoked": given.id, "later": given.reason})
    line(f"{namespace}/{name}: {given.id} is worth nothing any more")
    if given.reason:
        line(given.reason)


def device_name(device: str) -> tuple[str, str]:
    """(namespace, name) of NAMESPACE/NAME or NAME. Raises UsageFailure."""
    namespace, slash, name = device.rpartition("/")
    if not name or (slash and not namespace) or "/" in namespace:
        raise UsageFailure(f"[NAMESPACE/]NAME is {device!r}: it should be like default/light, or light")
    return namespace or "default", name


def ttl_seconds(ttl: str) -> float:
    """720h, 90d ... in seconds. Raises UsageFailure."""
    match = _TTL.fullmatch(ttl)
    seconds = int(match[1]) * SECONDS[match[2]] if match else 0
    if not words.SHORTEST_TTL_SECONDS <= seconds <= words.LONGEST_TTL_SECONDS:
        raise UsageFailure(f"--ttl is {ttl!r}: it should be a number with s, m, h or d, like 720h, of 60s at least")
    return float(seconds)


def roots(given: AdminAnswer) -> bytes:
    return b"".join(Bundle.read(given.bundle.encode()).roots_pem)


def mosquitto(given: AdminAnswer, namespace: str, name: str, credentials: str) -> str:
    """A line to try them: the device says that it is online."""
    state = topic(c.STATE_UPDATE, namespace=namespace, name=name)
    body = json.dumps({"event_id": "1", "state": "online"})
    where = f"mosquitto_pub -h {given.host} -p {given.port} {credentials} -q 1"
    return f"{where} -t {shlex.quote(state)} -m {shlex.quote(body)}"


def _told(given: AdminAnswer, device: str, folder: Path, files: tuple[str, ...], try_it: str, output: Output) -> None:
    facts: dict[str, Any] = {"device": device, "id": given.id, "until": rfc3339(given.not_after)}
    facts |= {name.removesuffix(".pem"): str(folder / name) for name in files}
    facts |= {"token": given.token} if given.token else {}
    facts |= {"host": given.host, "port": given.port, "try": try_it, "later": given.reason}
    if output is Output.JSON:
        return print_json(facts)
    for name in ("device", "id", "until", *(file.removesuffix(".pem") for file in files), "token"):
        if name in facts:
            line(f"{name + ':':8}{facts[name]}")
    if given.reason:
        line(f"{'later:':8}{given.reason}")
    line("try:")
    line(f"  {try_it}")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        for name, content in files.items():
            write_private(folder / name, content)
    except OSError as e:
        raise Failure(
            f"--out {folder}: {e.strerror}; the credentials are given, but not written: do it again"
        ) from None


def _asked(path: Path, question: AdminAsk) -> AdminAnswer:
    try:
        answer = asyncio.run(ask(path, question))
    except AdminAway as e:
        raise Failure(f"{e} (say --socket, or set {SOCKET_VARIABLE})", NO_CONNECTION) from None
    if answer.verdict != words.OK:
        raise Failure(answer.reason or answer.verdict, CODES.get(answer.verdict, FAILED))
    return answer


def _socket(given: str) -> Path:
    if given:
        return Path(given)
    demo = demo_endpoints(Path.cwd()) or {}
    if demo.get("admin_socket"):
        return Path(demo["admin_socket"])
    if folder := os.environ.get("CANOPY_DATA_DIR"):
        return _in(folder)  # named: no other node is ever meant
    places = [_in(folder) for folder in (".canopy", *USUAL)]
    return next((place for place in places if _there(place)), places[0])


def _in(folder: str) -> Path:
    return Path(folder) / "identity" / "admin.sock"


def _there(place: Path) -> bool:
    try:
        return place.is_socket()
    except PermissionError:
        return True


def _operator() -> str:
    """Who the person is, by its own word: the kernel's goes beside it in the audit."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return ""

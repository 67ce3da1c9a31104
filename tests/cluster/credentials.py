"""Certificates of devices, given by their node: by the command that people type, where the node's folder is."""

import asyncio
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import kubectl as k

Contexts = dict[str, ssl.SSLContext]
Give = Callable[[Sequence[str]], Awaitable[Contexts]]
"""Certificates for these devices of the namespace `default`. Raises kubectl.Refused while the node does not know one
of them yet."""
FILES = ("cert.pem", "key.pem", "ca.pem")
POD, IDENTITY = "canopy-credentials", "/var/lib/canopy/identity"
EACH = """
set -e
for name in "$@"; do
  python3 -m canopy.cli.main device provision "default/$name" --out "/tmp/$name" >&2
  for file in cert key ca; do echo "=== $name/$file.pem"; cat "/tmp/$name/$file.pem"; done
done
"""


def from_folder(folder: Path, socket: Path) -> Give:
    """Of a node on this machine; the files stay in `folder`."""

    async def give(names: Sequence[str]) -> Contexts:
        for name in names:
            words = ("device", "provision", f"default/{name}", "--out", str(folder / name), "--socket", str(socket))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "canopy.cli.main", *words, stdout=-1, stderr=-1
            )
            _, err = await process.communicate()
            if process.returncode:
                raise k.Refused(err.decode())
        return {name: _context(*((folder / name / file).read_text() for file in FILES)) for name in names}

    return give


def from_pod(node: str) -> Give:
    """Of the DaemonSet's edge on `node`, by a pod that has that folder of the node."""

    async def give(names: Sequence[str]) -> Contexts:
        if not (await k.kubectl("get", "pod", POD, "--ignore-not-found", "-o", "name")).strip():
            await k.apply(_pod(node))
            await k.kubectl("wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=60s", seconds=90)
        said = await k.kubectl("exec", POD, "--", "sh", "-c", EACH, "sh", *names)
        found = {head: text for head, _, text in (part.partition("\n") for part in said.split("=== ") if part)}
        return {name: _context(*(found[f"{name}/{file}"] for file in FILES)) for name in names}

    return give


async def remove_pod() -> None:
    """What `from_pod` made."""
    await k.kubectl("delete", "pod", POD, "--ignore-not-found", "--grace-period=0", "--force")


def _context(cert: str, key: str, ca: str) -> ssl.SSLContext:
    """As a device has it that knows its node by its roots and by the address in its certificate."""
    context = ssl.create_default_context(cadata=ca)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl reads files only
        file.write(key + cert)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _pod(node: str) -> k.Json:
    env = {"CANOPY_ADMIN_SOCKET": "/run/canopy/admin.sock"}
    return k.sleeper(POD, node, "canopy/cli:dev", 65532, (IDENTITY, "/run/canopy"), env)

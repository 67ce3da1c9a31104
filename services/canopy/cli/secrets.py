"""`canopy secrets`: what a deployment on Kubernetes wants to be there before, made once, for `kubectl apply -f -`."""

import base64
import json
import secrets as random
import shutil
import subprocess
from typing import Annotated, Any

import typer

from canopy.cli import kubekeys
from canopy.cli.failure import EXIT_CODES, NO_CONNECTION, Failure
from canopy.cli.output import print_json
from canopy.identity.keys import BadKey
from canopy.identity.svid import BadSvid

HELP = f"""Print what deploy/k8s wants to be there before, for `kubectl apply -f -`. What is there already stays.

Asks the cluster of your kubectl. Secrets: the keys of spire_integration at the hub and the join root that every node
keeps (canopy-hub-keys: back it up), the passwords of Redis and of the hub's servers among themselves. ConfigMaps: the
public keys, for the hub, and whom SPIRE is to know, of nodes those with the label node.canopy.dev/runs-edge=true: run
it again after labelling another one.

\b
Examples:
  canopy secrets | kubectl apply -f -
  canopy secrets --trust-domain fleet.example --hub-names hub.example | kubectl apply -f -
  canopy secrets --context production | kubectl --context production apply -f -

{EXIT_CODES}
"""
KUBECTL_SECONDS = 30
PASSWORD_BYTES = 20

TrustDomainOption = Annotated[str, typer.Option("--trust-domain", help="Of the fleet, as the manifests have it.")]
HubNamesOption = Annotated[
    str, typer.Option("--hub-names", help="More names by which leaves know the hub, with commas: hub.example.")
]
ContextOption = Annotated[str, typer.Option("--context", help="A context of your kubeconfig; else the current one.")]


def secrets(
    trust_domain: TrustDomainOption = "canopy.test", hub_names: HubNamesOption = "", context: ContextOption = ""
) -> None:
    names = (*kubekeys.HUB_NAMES, *(name.strip() for name in hub_names.split(",") if name.strip()))
    held = {s["metadata"]["name"]: _decoded(s) for s in _items(context, "secrets", "-n", kubekeys.NAMESPACE)}
    edges = [n["metadata"]["name"] for n in _items(context, "nodes", "-l", kubekeys.RUNS_EDGE)]
    found = _keys(held.get(kubekeys.KEYS, {}), edges, names, trust_domain)
    found["items"].append(kubekeys.passwords(held.get(kubekeys.PASSWORDS, {}), _new))
    print_json(found)


def _keys(there: dict[str, bytes], edges: list[str], names: tuple[str, ...], td: str) -> dict[str, Any]:
    """Raises Failure for a Secret that holds something else: what nodes know is not made anew in passing."""
    try:
        from canopy.identity.hubkeys import NoKeys  # only here: a node's command line has no library for nkeys
    except ModuleNotFoundError as e:
        raise Failure(f"no {e.name} here, which makes the keys: pip install 'canopy[cli,spire_integration]'") from None
    try:
        return kubekeys.manifests(there, edges, names, td)
    except (NoKeys, BadKey, BadSvid) as e:
        raise Failure(f"Secret {kubekeys.KEYS}: {e}; put back the one that the nodes know") from None


def _new() -> str:
    """Letters first: nats-server reads a variable like its configuration, where 12e3 is a number."""
    return f"p{random.token_hex(PASSWORD_BYTES)}"


def _decoded(secret: dict[str, Any]) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def _items(context: str, *what: str) -> list[dict[str, Any]]:
    """What kubectl lists. Raises Failure: without knowing what is there, new keys would lock everybody out."""
    if not shutil.which("kubectl"):
        raise Failure("no kubectl here, by which the cluster is asked what it has")
    command = ["kubectl", *(["--context", context] if context else []), "get", *what, "-o", "json"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=KUBECTL_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failure(f"kubectl get {what[0]}: no answer in {KUBECTL_SECONDS} s", NO_CONNECTION) from None
    if ended.returncode:
        raise Failure(f"kubectl get {what[0]}: {ended.stderr.strip()}", NO_CONNECTION)
    items: list[dict[str, Any]] = json.loads(ended.stdout)["items"]
    return items

"""`canopy secrets`: the passwords of a deployment on Kubernetes, made once, printed for `kubectl apply -f -`."""

import json
import secrets as random
import shutil
import subprocess
import sys
from typing import Annotated, Any

import typer

from canopy.cli import passwords
from canopy.cli.failure import EXIT_CODES, NO_CONNECTION, Failure, UsageFailure
from canopy.cli.output import print_json
from canopy.contracts.devices import MANAGED
from canopy.contracts.subject import BadToken, check_token

HELP = f"""Print the Secrets that deploy/k8s wants, for `kubectl apply -f -`. What is there already stays.

Asks the cluster of your kubectl. Each node that is named gets a password at the hub; the pods of the DaemonSet are
given those of the cluster's own nodes only. The hub takes new nodes when its servers start anew:
kubectl -n canopy rollout restart statefulset/nats

\b
Examples:
  canopy secrets --nodes worker-1 | kubectl apply -f -
  canopy secrets --nodes worker-1,edge-7 --context production | kubectl --context production apply -f -
  canopy secrets --forget edge-7 | kubectl apply -f -

{EXIT_CODES}
"""
KUBECTL_SECONDS = 30
PASSWORD_BYTES = 20

NodesOption = Annotated[str, typer.Option("--nodes", help="Names of nodes that may connect, with commas.")]
ForgetOption = Annotated[str, typer.Option("--forget", help="Names of nodes that may do so no longer, with commas.")]
ContextOption = Annotated[str, typer.Option("--context", help="A context of your kubeconfig; else the current one.")]


def secrets(nodes: NodesOption = "", forget: ForgetOption = "", context: ContextOption = "") -> None:
    named, forgotten = _names("--nodes", nodes), _names("--forget", forget)
    there = passwords.read(s for space in passwords.USERS for s in _items(context, "secrets", "-n", space))
    kubelets = [n["metadata"]["name"] for n in _items(context, "nodes", "-l", f"{MANAGED}!=true")]
    print_json(passwords.manifests(passwords.wanted(there, named, forgotten, kubelets, _new)))
    if added := sorted(set(named) - set(there.nodes)):
        again = "kubectl -n canopy rollout restart statefulset/nats"
        sys.stderr.write(f"new: {', '.join(added)}; a hub that runs learns of them by {again}\n")


def _new() -> str:
    """Letters first: nats-server reads a variable like its configuration, where 12e3 is a number."""
    return f"p{random.token_hex(PASSWORD_BYTES)}"


def _names(option: str, given: str) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        try:
            check_token("node", name)
        except BadToken as error:
            raise UsageFailure(f"{option}: {error}; a node is named as in Kubernetes, like edge-7") from None
    return names


def _items(context: str, *what: str) -> list[dict[str, Any]]:
    """What kubectl lists. Raises Failure: without knowing what is there, new passwords would lock everybody out."""
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

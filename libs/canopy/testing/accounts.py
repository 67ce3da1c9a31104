"""A unit's own ServiceAccount in a real API server: what deploy/k8s grants it is all that it may in its tests.

`make conformance` names the folder of the bases; the controllers' fixtures (`controllers.py`) ask for a kubeconfig.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from canopy.kubeserve.certificates import write_private
from canopy.testing.clients import KubeClient, Refused

BASES = "CANOPY_TEST_BASES"
"""In the environment: the folder deploy/k8s/base. Where it is not, tests run as the administrator."""
HOME = "canopy"
LEASES = "kube-system"
"""Where the controllers' tests keep the Lease of their election: the Role of HOME is granted there instead."""
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PLURALS = {"Role": "roles", "RoleBinding": "rolebindings", "ClusterRole": "clusterroles"}
PLURALS |= {"ClusterRoleBinding": "clusterrolebindings"}
APPLY = "application/apply-patch+yaml"
TOKEN_SECONDS = 7200

Json = dict[str, Any]


async def account(kubeconfig: Path, unit: str, directory: Path) -> Path:
    """A kubeconfig of the unit's own account, made with `kubeconfig`'s rights; that one itself where no bases are."""
    if not (bases := os.environ.get(BASES)):
        return kubeconfig
    async with KubeClient(kubeconfig) as kube:
        await _namespace(kube)
        for path, manifest in _granted(Path(bases) / unit / "rbac.yaml"):
            await kube.call("PATCH", f"{path}?fieldManager=canopy-tests&force=true", manifest, APPLY)
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        request["spec"] = {"expirationSeconds": TOKEN_SECONDS}
        said = await kube.call("POST", f"/api/v1/namespaces/{HOME}/serviceaccounts/{unit}/token", request)
    return _written(kubeconfig, said["status"]["token"], directory / f"{unit}.kubeconfig")


def _written(like: Path, token: str, own: Path) -> Path:
    config = yaml.safe_load(like.read_text())
    config["users"] = [{**user, "user": {"token": token}} for user in config["users"]]
    write_private(own, yaml.safe_dump(config).encode())
    return own


async def _namespace(kube: KubeClient) -> None:
    try:
        await kube.call("POST", "/api/v1/namespaces", {"metadata": {"name": HOME}})
    except Refused as error:
        if error.status != 409:
            raise


def _granted(rbac: Path) -> Iterator[tuple[str, Json]]:
    """(path, manifest) of all that a base grants."""
    for manifest in yaml.safe_load_all(rbac.read_text()):
        kind, meta = manifest["kind"], manifest["metadata"]
        if kind == "ServiceAccount":
            yield f"/api/v1/namespaces/{HOME}/serviceaccounts/{meta['name']}", manifest
            continue
        if meta.get("namespace") == HOME:
            meta["namespace"] = LEASES
        scope = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
        yield f"{RBAC}{scope}/{PLURALS[kind]}/{meta['name']}", manifest

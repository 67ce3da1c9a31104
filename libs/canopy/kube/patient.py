"""What a cloud unit does first, in any start order: reach the cluster, and learn which one it is. Units call it."""

from pathlib import Path

import msgspec

from canopy.kube.api import Kube
from canopy.kube.client import connect
from canopy.kube.connection import Pod
from canopy.kube.errors import KubeError
from canopy.kube.kubeconfig import NoCluster
from canopy.kube.resource import NAMESPACES
from canopy.runtime.patience import patiently


class _Meta(msgspec.Struct):
    uid: str


class _Head(msgspec.Struct):
    metadata: _Meta


async def cluster(kubeconfig: str, pod: Pod | None = None) -> Kube:
    """The cluster of a kubeconfig file, which may not be written yet; empty: of the pod. Close it at the end."""
    path = Path(kubeconfig) if kubeconfig else None
    return await patiently("the cluster's address", lambda: connect(path, pod=pod), NoCluster)


async def cluster_if_any(kubeconfig: str, pod: Pod | None = None) -> Kube | None:
    """The same; None where no file is named and this is no pod with a service account."""
    return await cluster(kubeconfig, pod) if kubeconfig or (pod or Pod()) else None


async def cluster_uid(kube: Kube) -> str:
    """What names a cluster: the uid of its namespace kube-system."""

    async def uid() -> str:
        return msgspec.json.decode(await kube.get(NAMESPACES, "", "kube-system"), type=_Head).metadata.uid

    return await patiently("the cluster's uid", uid, (KubeError, msgspec.DecodeError))

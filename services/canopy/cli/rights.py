"""What the demo must be allowed in a cluster, and whether it is: asked of Kubernetes before anything is made."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass

from canopy.kube.api import Kube
from canopy.kube.errors import NotFound
from canopy.kube.resource import (
    CRDS,
    DEVICE_MODELS,
    DEVICE_STATUSES,
    DEVICES,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    Resource,
)

REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", namespaced=False)
ASKS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Right:
    """Verbs on a kind, in all namespaces; `subresource` may be empty."""

    resource: Resource
    verbs: tuple[str, ...]
    subresource: str = ""

    def __str__(self) -> str:
        kind = self.resource.plural + (f"/{self.subresource}" if self.subresource else "")
        return f"{', '.join(self.verbs)} {kind}"


NEEDED = (
    Right(CRDS, ("get",)),
    Right(NAMESPACES, ("get", "create", "delete")),
    Right(NODES, ("get", "list", "watch", "create", "patch", "delete")),
    Right(NODES, ("patch",), "status"),
    Right(LEASES, ("get", "list", "create", "update", "patch", "delete")),
    Right(EVENTS, ("create",)),
    Right(DEVICE_MODELS, ("get", "list", "watch", "create")),
    Right(DEVICES, ("get", "list", "watch", "create", "patch")),
    Right(DEVICES, ("patch",), "status"),
    Right(DEVICE_STATUSES, ("get", "list", "watch", "create", "patch")),
    Right(DEVICE_STATUSES, ("patch",), "status"),
)

TO_INSTALL = (Right(CRDS, ("create", "delete")),)
"""Where CRDs are missing."""


async def missing(kube: Kube, needed: Iterable[Right] = NEEDED) -> list[str]:
    """The rights that the kubeconfig's user lacks, in words. Raises KubeError."""
    slots = asyncio.Semaphore(ASKS_AT_ONCE)

    async def lacks(right: Right) -> Right | None:
        async with slots:
            verbs = tuple([verb for verb in right.verbs if not await _may(kube, right, verb)])
        return Right(right.resource, verbs, right.subresource) if verbs else None

    found = await asyncio.gather(*(lacks(right) for right in needed))
    return [str(right) for right in found if right is not None]


async def _may(kube: Kube, right: Right, verb: str) -> bool:
    wanted = {"group": right.resource.group, "resource": right.resource.plural, "verb": verb}
    about = {**wanted, **({"subresource": right.subresource} if right.subresource else {})}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": about},
    }
    try:
        answer = json.loads(await kube.create(REVIEWS, "", json.dumps(review).encode()))
    except NotFound:  # a server that has no such question will say no by itself
        return True
    return bool(answer["status"].get("allowed"))

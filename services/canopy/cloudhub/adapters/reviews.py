"""Who may see what is of the whole fleet (dead letters, the audit): Kubernetes is asked as the caller.

CloudHub has no rights of its own: it is for those who may list Nodes and do the same with all Devices.
"""

import json

import msgspec

from canopy.kube.api import Kube
from canopy.kube.errors import Forbidden, NotFound
from canopy.kube.resource import DEVICES, NODES, Resource

REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", namespaced=False)


class _Status(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


async def allowed(kube: Kube, verb: str, what: str) -> None:
    """Raises Forbidden (a KubeError). A Kubernetes that has no reviews (kubeserve) has no lesser users either."""
    await kube.list(NODES)
    attributes = {"verb": verb, "group": DEVICES.group, "resource": DEVICES.plural}
    body = {"apiVersion": f"{REVIEWS.group}/v1", "kind": "SelfSubjectAccessReview"}
    asked = json.dumps(body | {"spec": {"resourceAttributes": attributes}}).encode()
    try:
        review = msgspec.json.decode(await kube.create(REVIEWS, "", asked), type=_Review)
    except NotFound:
        return
    if not review.status.allowed:
        raise Forbidden(f"{what} for those who may {verb} the devices of all namespaces")

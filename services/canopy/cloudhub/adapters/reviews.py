"""Who may see and do what is of the whole fleet (dead letters, the audit, joining): Kubernetes is asked as the caller.

CloudHub has no rights of its own: it is for those who may list Nodes and do the same with all Devices, or with Nodes.
"""

import json

import msgspec

from canopy.kube.api import Kube
from canopy.kube.errors import Forbidden, NotFound
from canopy.kube.resource import DEVICES, NODES, Resource

REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", namespaced=False)


WHOAMI = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", namespaced=False)
NAMELESS = "a user of the fleet API"
"""Where Kubernetes has no names for its users."""


class _Status(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


async def allowed(kube: Kube, verb: str, what: str, of: Resource = DEVICES) -> None:
    """Raises Forbidden (a KubeError). A Kubernetes that has no reviews (kubeserve) has no lesser users either."""
    await kube.list(NODES)
    attributes = {"verb": verb, "group": of.group, "resource": of.plural}
    body = {"apiVersion": f"{REVIEWS.group}/v1", "kind": "SelfSubjectAccessReview"}
    asked = json.dumps(body | {"spec": {"resourceAttributes": attributes}}).encode()
    try:
        review = msgspec.json.decode(await kube.create(REVIEWS, "", asked), type=_Review)
    except NotFound:
        return
    if not review.status.allowed:
        every = f"the {of.plural} of all namespaces" if of.namespaced else of.plural
        raise Forbidden(f"{what} for those who may {verb} {every}")


class _User(msgspec.Struct):
    username: str = ""


class _Who(msgspec.Struct, rename="camel"):
    user_info: _User = msgspec.field(default_factory=_User)


class _Self(msgspec.Struct):
    status: _Who = msgspec.field(default_factory=_Who)


async def name_of(kube: Kube) -> str:
    """The caller as Kubernetes knows him, for the audit."""
    asked = json.dumps({"apiVersion": f"{WHOAMI.group}/v1", "kind": "SelfSubjectReview"}).encode()
    try:
        found = msgspec.json.decode(await kube.create(WHOAMI, "", asked), type=_Self)
    except NotFound:
        return NAMELESS
    return found.status.user_info.username or NAMELESS

"""Names of what Kubernetes holds: which group, version and plural. Every call on `Kube` takes one."""

from dataclasses import dataclass

from canopy.contracts import devices


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object as Kubernetes' paths spell it. `group` is empty for the core kinds."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of an object, of a namespace's collection, or (both empty) of the whole collection."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return root + scope + "".join(f"/{part}" for part in (self.plural, name, subresource) if part)


DEVICES = Resource(devices.GROUP, devices.VERSION, devices.DEVICES)
DEVICE_MODELS = Resource(devices.GROUP, devices.VERSION, devices.DEVICE_MODELS)
DEVICE_STATUSES = Resource(devices.GROUP, devices.VERSION, devices.DEVICE_STATUSES)
NODES = Resource("", "v1", "nodes", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
EVENTS = Resource("", "v1", "events")
LEASES = Resource("coordination.k8s.io", "v1", "leases")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)

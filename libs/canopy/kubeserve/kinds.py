"""Which kinds are served, and how each behaves: a table of Kubernetes' own, and what CRDs add. Pure.

`Kinds` is the registry: the store's CRDs plus `BUILTIN`, looked up by (group, plural).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from canopy.kubeserve.status import Json

COMMON_FIELDS = ("metadata.name", "metadata.namespace")
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")

KindId = tuple[str, str]
"""(group, plural)."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the Table output. `path` is a JSONPath without braces; priority 0 is shown without `-o wide`."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One served kind. `custom`: it came from a CRD, so `schema` is obeyed and `generation` counted."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    status: bool = False
    custom: bool = False
    schema: Json = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    fields: tuple[str, ...] = COMMON_FIELDS
    singular: str = ""
    list_kind: str = ""
    strict_names: bool = True

    @property
    def id(self) -> KindId:
        return (self.group, self.plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full_name(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def listed_as(self) -> str:
        return self.list_kind or f"{self.kind}List"


AGE = Column("Age", ".metadata.creationTimestamp", "date")
_READY = ".status.conditions[?(@.type=='Ready')].status"

CRD = Kind(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    namespaced=False,
    short=("crd", "crds"),
    status=True,
    columns=(Column("Created At", ".metadata.creationTimestamp"),),
)
NAMESPACE = Kind(
    "",
    "v1",
    "Namespace",
    "namespaces",
    namespaced=False,
    short=("ns",),
    status=True,
    columns=(Column("Status", ".status.phase"), AGE),
)
EVENT = Kind(
    "",
    "v1",
    "Event",
    "events",
    short=("ev",),
    columns=(
        Column("Last Seen", ".lastTimestamp", "date"),
        Column("Type", ".type"),
        Column("Reason", ".reason"),
        Column("Object", ".involvedObject.name"),
        Column("Message", ".message"),
    ),
    fields=(
        *COMMON_FIELDS,
        *(f"involvedObject.{f}" for f in _INVOLVED),
        "reason",
        "type",
        "source",
        "reportingComponent",
    ),
)
BUILTIN = (
    NAMESPACE,
    Kind(
        "",
        "v1",
        "Node",
        "nodes",
        namespaced=False,
        short=("no",),
        status=True,
        columns=(
            Column("Status", _READY, "node-status"),
            Column("Roles", ".metadata.labels", "node-roles"),
            AGE,
            Column("Version", ".status.nodeInfo.kubeletVersion"),
            Column("OS-Image", ".status.nodeInfo.osImage", priority=1),
            Column("Architecture", ".status.nodeInfo.architecture", priority=1),
        ),
        fields=(*COMMON_FIELDS, "spec.unschedulable"),
    ),
    Kind(
        "",
        "v1",
        "Pod",
        "pods",
        short=("po",),
        status=True,
        columns=(Column("Status", ".status.phase"), Column("Node", ".spec.nodeName"), AGE),
        fields=(*COMMON_FIELDS, "spec.nodeName", "status.phase"),
    ),
    EVENT,
    Kind("", "v1", "ConfigMap", "configmaps", short=("cm",), columns=(Column("Data", ".data", "count"), AGE)),
    Kind(
        "",
        "v1",
        "Secret",
        "secrets",
        columns=(Column("Type", ".type"), Column("Data", ".data", "count"), AGE),
        fields=(*COMMON_FIELDS, "type"),
    ),
    Kind(
        "coordination.k8s.io",
        "v1",
        "Lease",
        "leases",
        columns=(Column("Holder", ".spec.holderIdentity"), AGE),
    ),
    CRD,
)


class Kinds:
    """What is served now. Owned by the store; `set_custom` after a CRD came or went."""

    def __init__(self) -> None:
        self._own = {k.id: k for k in BUILTIN}
        self._custom: dict[KindId, Kind] = {}

    def __iter__(self) -> Iterator[Kind]:
        yield from self._own.values()
        yield from self._custom.values()

    def find(self, group: str, plural: str) -> Kind | None:
        return self._own.get((group, plural)) or self._custom.get((group, plural))

    def set_custom(self, kinds: Iterable[Kind]) -> None:
        self._custom = {k.id: k for k in kinds}

    def versions(self) -> dict[str, list[str]]:
        """The versions of each group, the core group first."""
        found: dict[str, list[str]] = {}
        for kind in self:
            if kind.version not in found.setdefault(kind.group, []):
                found[kind.group].append(kind.version)
        return found

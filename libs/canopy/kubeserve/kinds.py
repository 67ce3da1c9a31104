"""Which kinds are served, and how each behaves: a table of Kubernetes' own, and what CRDs add. Pure.

`Kinds` is the registry: the store's CRDs plus `BUILTIN`, looked up by (group, plural).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from canopy.kubeserve import jsonpath, schema
from canopy.kubeserve.status import Cause, Json

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


_AGE = Column("Age", ".metadata.creationTimestamp", "date")
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
    columns=(Column("Status", ".status.phase"), _AGE),
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
            _AGE,
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
        columns=(Column("Status", ".status.phase"), Column("Node", ".spec.nodeName"), _AGE),
        fields=(*COMMON_FIELDS, "spec.nodeName", "status.phase"),
    ),
    EVENT,
    Kind("", "v1", "ConfigMap", "configmaps", short=("cm",), columns=(Column("Data", ".data", "count"), _AGE)),
    Kind(
        "",
        "v1",
        "Secret",
        "secrets",
        columns=(Column("Type", ".type"), Column("Data", ".data", "count"), _AGE),
        fields=(*COMMON_FIELDS, "type"),
    ),
    Kind(
        "coordination.k8s.io",
        "v1",
        "Lease",
        "leases",
        columns=(Column("Holder", ".spec.holderIdentity"), _AGE),
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


def custom_kind(crd: Json) -> Kind:
    """The kind that a valid CRD asks for: its storage version."""
    spec, names = crd["spec"], crd["spec"]["names"]
    version = next(v for v in spec["versions"] if v.get("storage"))
    columns = tuple(_column(c) for c in version.get("additionalPrinterColumns", ())) or (_AGE,)
    return Kind(
        spec["group"],
        version["name"],
        names["kind"],
        names["plural"],
        namespaced=spec["scope"] == "Namespaced",
        short=tuple(names.get("shortNames", ())),
        status="status" in version.get("subresources", {}),
        custom=True,
        schema=version.get("schema", {}).get("openAPIV3Schema", {}),
        columns=columns,
        singular=names.get("singular", names["kind"].lower()),
        list_kind=names.get("listKind", ""),
    )


def _column(column: Json) -> Column:
    return Column(
        column["name"],
        column["jsonPath"],
        column.get("type", "string"),
        column.get("description", ""),
        column.get("priority", 0),
    )


_TEXT: Json = {"type": "string", "minLength": 1}
_SHAPE: Json = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["group", "names", "scope", "versions"],
            "properties": {
                "group": _TEXT,
                "scope": {"type": "string", "enum": ["Namespaced", "Cluster"]},
                "names": {
                    "type": "object",
                    "required": ["kind", "plural"],
                    "properties": {
                        "kind": _TEXT,
                        "plural": _TEXT,
                        "singular": {"type": "string"},
                        "listKind": {"type": "string"},
                        "shortNames": {"type": "array", "items": _TEXT},
                    },
                },
                "versions": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["name", "served", "storage", "schema"],
                        "properties": {
                            "name": _TEXT,
                            "served": {"type": "boolean"},
                            "storage": {"type": "boolean"},
                            "schema": {
                                "type": "object",
                                "required": ["openAPIV3Schema"],
                                "properties": {"openAPIV3Schema": {"type": "object"}},
                            },
                            "subresources": {"type": "object", "properties": {"status": {"type": "object"}}},
                            "additionalPrinterColumns": {
                                "type": "array",
                                "items": {"type": "object", "required": ["name", "type", "jsonPath"]},
                            },
                        },
                    },
                },
            },
        }
    },
}


def crd_faults(crd: Json) -> Iterator[Cause]:
    """What is wrong with a CRD, or more than kubeserve can do."""
    shape = list(schema.faults(_SHAPE, crd))
    yield from shape
    if not shape:
        yield from _meaning_faults(crd)


def _meaning_faults(crd: Json) -> Iterator[Cause]:
    spec = crd["spec"]
    full = f"{spec['names']['plural']}.{spec['group']}"
    if crd["metadata"]["name"] != full:
        yield Cause(
            "FieldValueInvalid", f'Invalid value: must be spec.names.plural+"."+spec.group: {full}', "metadata.name"
        )
    if any(k.id == (spec["group"], spec["names"]["plural"]) for k in BUILTIN):
        yield Cause("FieldValueForbidden", f"Forbidden: {full} is one of the server's own kinds", "spec.group")
    if sum(v["storage"] for v in spec["versions"]) != 1:
        yield Cause(
            "FieldValueInvalid", "Invalid value: exactly one version must be the storage version", "spec.versions"
        )
    for i, version in enumerate(spec["versions"]):
        if version["storage"]:
            yield from _version_faults(version, f"spec.versions[{i}]")


def _version_faults(version: Json, at: str) -> Iterator[Cause]:
    if not version["served"]:
        yield Cause("FieldValueForbidden", "Forbidden: kubeserve serves the storage version", f"{at}.served")
    if "scale" in version.get("subresources", {}):
        yield Cause("FieldValueForbidden", "Forbidden: kubeserve has no scale subresource", f"{at}.subresources.scale")
    for path in schema.unknown_keywords(version["schema"]["openAPIV3Schema"], f"{at}.schema.openAPIV3Schema"):
        yield Cause("FieldValueForbidden", "Forbidden: kubeserve does not know this keyword", path)
    for i, column in enumerate(version.get("additionalPrinterColumns", ())):
        if not jsonpath.known(column["jsonPath"]):
            where = f"{at}.additionalPrinterColumns[{i}].jsonPath"
            yield Cause("FieldValueInvalid", f"Invalid value: kubeserve cannot read {column['jsonPath']}", where)

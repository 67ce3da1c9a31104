"""CustomResourceDefinitions: the kind that one asks for, and what is wrong with one. Pure."""

from collections.abc import Iterator

from canopy.kubeserve import jsonpath, schema
from canopy.kubeserve.kinds import AGE, BUILTIN, Column, Kind
from canopy.kubeserve.status import Cause, Json


def custom_kind(crd: Json) -> Kind:
    """The kind that a valid CRD asks for: its storage version."""
    spec, names = crd["spec"], crd["spec"]["names"]
    version = next(v for v in spec["versions"] if v.get("storage"))
    columns = tuple(_column(c) for c in version.get("additionalPrinterColumns", ())) or (AGE,)
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

"""What a client asks before anything else: groups, versions, resources, and the OpenAPI v3 documents. Pure.

The documents say that writes take `fieldValidation`, so kubectl leaves validation to the server, and hold the schemas
of custom kinds, so `kubectl explain` works. OpenAPI v2 is there and empty.
"""

import zlib
from collections.abc import Iterable

import msgspec

from canopy.kubeserve.explained import HEAD, META
from canopy.kubeserve.kinds import Kind, Kinds
from canopy.kubeserve.status import Json

VERSION: Json = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0+canopy-kubeserve",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "any",
}
EMPTY_V2: Json = {
    "swagger": "2.0",
    "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
    "paths": {},
    "definitions": {},
}
REVIEW_GROUP = "authorization.k8s.io"
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_WRITES = {"post": "post", "put": "put", "patch": "patch"}


def core_versions() -> Json:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(kinds: Kinds) -> Json:
    found = [*(_group(g, v) for g, v in kinds.versions().items() if g), _group(REVIEW_GROUP, ["v1"])]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(kinds: Kinds, name: str) -> Json | None:
    versions = kinds.versions().get(name) or (["v1"] if name == REVIEW_GROUP else None)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions and name else None


def _group(name: str, versions: list[str]) -> Json:
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resources(kinds: Iterable[Kind], group_name: str, version: str) -> Json | None:
    """The APIResourceList of a group's version; None if there is none."""
    served = [k for k in kinds if (k.group, k.version) == (group_name, version)]
    listed = [r for k in served for r in _resources(k)]
    if group_name == REVIEW_GROUP and version == "v1":
        listed = [_review()]
    where = f"{group_name}/{version}" if group_name else version
    return (
        {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": where, "resources": listed} if listed else None
    )


def _resources(kind: Kind) -> list[Json]:
    base: Json = {"kind": kind.kind, "namespaced": kind.namespaced, "singularName": kind.singular or kind.kind.lower()}
    main = {"name": kind.plural, **base, "verbs": _VERBS, "shortNames": list(kind.short)}
    if not kind.status:
        return [main]
    return [main, {"name": f"{kind.plural}/status", **base, "singularName": "", "verbs": ["get", "patch", "update"]}]


def _review() -> Json:
    name = "selfsubjectaccessreviews"
    return {
        "name": name,
        "singularName": "",
        "namespaced": False,
        "kind": "SelfSubjectAccessReview",
        "verbs": ["create"],
    }


# --- OpenAPI v3 -------------------------------------------------------------------------------------------------------
def openapi_index(kinds: Kinds) -> Json:
    """The documents there are, each with a hash of its content so that clients may keep it."""
    paths = {}
    for group_name, versions in kinds.versions().items():
        for version in versions:
            where = f"apis/{group_name}/{version}" if group_name else f"api/{version}"
            digest = zlib.crc32(msgspec.json.encode(openapi(kinds, group_name, version)))
            paths[where] = {"serverRelativeURL": f"/openapi/v3/{where}?hash={digest:08X}"}
    return {"paths": paths}


def openapi(kinds: Iterable[Kind], group_name: str, version: str) -> Json | None:
    """The document of a group's version; None if there is none."""
    served = [k for k in kinds if (k.group, k.version) == (group_name, version)]
    if not served:
        return None
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {path: ops for k in served for path, ops in _paths(k).items()},
        "components": {"schemas": {**META, **{_schema_name(k): _schema(k) for k in served}}},
    }


def _paths(kind: Kind) -> Json:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    scope = "/namespaces/{namespace}" if kind.namespaced else ""
    many = f"{root}{scope}/{kind.plural}"
    return {
        many: {"get": _operation(kind, "list"), "post": _operation(kind, "post")},
        f"{many}/{{name}}": {
            "get": _operation(kind, "get"),
            "put": _operation(kind, "put"),
            "patch": _operation(kind, "patch"),
            "delete": _operation(kind, "delete"),
        },
    }


def _operation(kind: Kind, action: str) -> Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_schema_name(kind)}"}}}
    names = ("dryRun", "fieldManager", "fieldValidation") if action in _WRITES else ()
    return {
        "operationId": f"{action}{kind.kind}",
        "parameters": [{"name": n, "in": "query", "schema": {"type": "string", "uniqueItems": True}} for n in names],
        "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(kind),
    }


def _gvk(kind: Kind) -> Json:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _schema_name(kind: Kind) -> str:
    return ".".join([*reversed((kind.group or "core.api.k8s.io").split(".")), kind.version, kind.kind])


def _schema(kind: Kind) -> Json:
    free: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = dict(kind.schema or free)
    if "properties" in schema:
        schema["properties"] = {**schema["properties"], **HEAD}
    return {**schema, "x-kubernetes-group-version-kind": [_gvk(kind)]}

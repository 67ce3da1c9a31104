"""What `kubectl explain` says of the part that all objects have: apiVersion, kind, metadata. In OpenAPI v3's form."""

from canopy.kubeserve.status import Json

_PREFIX = "io.k8s.apimachinery.pkg.apis.meta.v1."
_AT = "#/components/schemas/" + _PREFIX
_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "integer", "format": "int64"}
_TIME: Json = {"type": "string", "format": "date-time"}
_WORDS: Json = {"type": "object", "additionalProperties": _TEXT}


def _ref(name: str) -> Json:
    return {"allOf": [{"$ref": _AT + name}]}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _of(description: str, properties: Json, required: tuple[str, ...] = ()) -> Json:
    found: Json = {"type": "object", "description": description, "properties": properties}
    return {**found, "required": list(required)} if required else found


HEAD: Json = {
    "apiVersion": {**_TEXT, "description": "The group and version of the kind, GROUP/VERSION."},
    "kind": {**_TEXT, "description": "What kind of object this is."},
    "metadata": {"description": "What all objects have.", **_ref("ObjectMeta")},
}

_META = _of(
    "Names, ids and times of an object.",
    {
        "annotations": {**_WORDS, "description": "Notes that tools keep here."},
        "creationTimestamp": {**_TIME, "description": "When it was created; the server's."},
        "deletionGracePeriodSeconds": {**_NUMBER, "description": "How long its end may take; the server's."},
        "deletionTimestamp": {**_TIME, "description": "Since when it is to go; the server's."},
        "finalizers": {**_list(_TEXT), "description": "Who must agree before it goes."},
        "generateName": {**_TEXT, "description": "How a name that the server makes up begins."},
        "generation": {**_NUMBER, "description": "How often what is wanted has changed; the server's."},
        "labels": {**_WORDS, "description": "By what it can be selected."},
        "managedFields": {**_list(_ref("ManagedFieldsEntry")), "description": "Who set what; not kept here."},
        "name": {**_TEXT, "description": "Unique among its kind in its namespace."},
        "namespace": {**_TEXT, "description": "Where it lives."},
        "ownerReferences": {**_list(_ref("OwnerReference")), "description": "With whose end it goes."},
        "resourceVersion": {**_TEXT, "description": "Its revision; the server's."},
        "selfLink": {**_TEXT, "description": "Not used any more."},
        "uid": {**_TEXT, "description": "Its own for ever; the server's."},
    },
)
_MANAGED = _of(
    "Which fields a manager set.",
    {
        "apiVersion": _TEXT,
        "fieldsType": _TEXT,
        "fieldsV1": _ref("FieldsV1"),
        "manager": _TEXT,
        "operation": _TEXT,
        "subresource": _TEXT,
        "time": _TIME,
    },
)
_OWNER = _of(
    "An object with whose end this one goes.",
    {
        "apiVersion": _TEXT,
        "blockOwnerDeletion": {"type": "boolean"},
        "controller": {"type": "boolean"},
        "kind": _TEXT,
        "name": _TEXT,
        "uid": _TEXT,
    },
    ("apiVersion", "kind", "name", "uid"),
)
META: Json = {
    _PREFIX + "ObjectMeta": _META,
    _PREFIX + "ManagedFieldsEntry": _MANAGED,
    _PREFIX + "OwnerReference": _OWNER,
    _PREFIX + "FieldsV1": {"type": "object", "description": "Fields as a tree."},
}

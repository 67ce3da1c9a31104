"""What becomes of an object when it is created, changed or deleted: metadata, subresources, schema. Pure.

Called by `verbs.py` with the old object and what the client sent; ids and time are arguments.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from canopy.contracts.devices import OwnerReference
from canopy.kubeserve import definitions, kinds, schema
from canopy.kubeserve.kinds import Kind
from canopy.kubeserve.status import Cause, Json, bad_request, conflict, invalid

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
NAME_LIMIT_CHARACTERS = 253
NAMESPACE_LIMIT_CHARACTERS = 63
SERVERS_OWN = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")
_LABEL_KEY = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])")
_ENDS = "must start and end with an alphanumeric character"
_NAME_RULE = (
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and {_ENDS} (e.g. "
    f"'example.com', regex used for validation is '{_NAME.pattern}')"
)
_NAMESPACE_RULE = (
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and {_ENDS} (e.g. "
    f"'my-name',  or '123-abc', regex used for validation is '{_LABEL.pattern}')"
)
_KEY_RULE = (
    f"name part must consist of alphanumeric characters, '-', '_' or '.', and {_ENDS} (e.g. "
    "'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_RULE = (
    f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and {_ENDS} (e.g. "
    "'MyValue',  or 'my_value',  or '12345', "
    "regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


class _Meta(msgspec.Struct, rename="camel"):
    """Types of what a client may send in metadata; unknown fields are left out."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    resource_version: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None
    finalizers: list[str] | None = None


_KNOWN = frozenset((*SERVERS_OWN, *(f.encode_name for f in msgspec.structs.fields(_Meta)), "managedFields"))
_KEPT = ("name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers")


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client sent: the object with typed metadata, and the two ids it may hold us to."""

    body: Json
    meta: Json
    resource_version: str
    uid: str
    unknown: tuple[str, ...] = ()
    """Paths of fields that no metadata has."""

    @property
    def name(self) -> str:
        return str(self.meta.get("name", ""))


def read(kind: Kind, namespace: str, body: Any) -> Sent:
    """Check kind, apiVersion and the types of metadata. Raises BadRequest."""
    if not isinstance(body, dict):
        raise bad_request("the body must be an object")
    for key, wanted in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        if body.get(key, wanted) != wanted:
            raise bad_request(f"{key} in the data ({body[key]}) does not match the expected {key} ({wanted})")
    meta = _read_meta(body.get("metadata") or {})
    said = meta.namespace
    if said and said != namespace:
        raise bad_request(
            f"the namespace of the object ({said}) does not match the namespace of the request ({namespace})"
        )
    kept = {k: v for k, v in msgspec.to_builtins(meta).items() if k in _KEPT and v}
    if namespace:
        kept["namespace"] = namespace
    whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": kept}
    unknown = tuple(f"metadata.{k}" for k in body.get("metadata") or {} if k not in _KNOWN)
    return Sent(whole, kept, meta.resource_version, meta.uid, unknown)


def _read_meta(value: Any) -> _Meta:
    try:
        return msgspec.convert(value, _Meta)
    except msgspec.ValidationError as error:
        raise bad_request(f"metadata: {error}") from error


def created(kind: Kind, sent: Sent, uid: str, suffix: str, now: str, warnings: list[str]) -> Json:
    """A new object. `suffix` completes generateName. Raises Invalid."""
    warnings += sent.unknown
    meta = dict(sent.meta)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + suffix
    meta |= {"uid": uid, "creationTimestamp": now} | ({"generation": 1} if _counts(kind) else {})
    body = {**sent.body, "metadata": meta}
    if kind.status and kind.custom:
        body.pop("status", None)
    return _with_own_status(kind, _checked(kind, body, warnings), now)


def _with_own_status(kind: Kind, body: Json, now: str) -> Json:
    if kind.id == kinds.NAMESPACE.id:
        return body | {"spec": {"finalizers": []}, "status": {"phase": "Active"}}
    if kind.id != kinds.CRD.id:
        return body
    names, spec = body["spec"]["names"], body["spec"]
    names = {"singular": names["kind"].lower(), "listKind": f"{names['kind']}List"} | names
    said = [
        {"type": t, "status": "True", "reason": r, "message": m, "lastTransitionTime": now}
        for t, r, m in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    stored = [v["name"] for v in spec["versions"] if v["storage"]]
    spec = {"conversion": {"strategy": "None"}} | spec | {"names": names}
    return body | {"spec": spec, "status": {"acceptedNames": names, "conditions": said, "storedVersions": stored}}


def updated(kind: Kind, old: Json, sent: Sent, warnings: list[str]) -> Json:
    """The object after a write to the main resource: status stays where it is a subresource."""
    hold_to(kind, old, sent.resource_version, sent.uid)
    _same_name(old, sent)
    body = {**sent.body, "metadata": _kept_meta(old, sent.meta)}
    if kind.status:
        body = {k: v for k, v in body.items() if k != "status"} | ({"status": old["status"]} if "status" in old else {})
    body = _checked(kind, body, warnings)
    if kind.id == kinds.CRD.id:
        body = _with_own_status(kind, body, old["metadata"]["creationTimestamp"])
    if _counts(kind) and _without(body, "metadata", "status") != _without(old, "metadata", "status"):
        body["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
    return body


def status_updated(kind: Kind, old: Json, sent: Sent, warnings: list[str]) -> Json:
    """The object after a write to its status subresource: only status, labels and annotations may differ."""
    hold_to(kind, old, sent.resource_version, sent.uid)
    _same_name(old, sent)
    body = dict(old)
    body.pop("status", None)
    if sent.body.get("status") is not None:
        body["status"] = sent.body["status"]
    meta = {k: v for k, v in old["metadata"].items() if k not in ("labels", "annotations")}
    meta |= {k: sent.meta[k] for k in ("labels", "annotations") if k in sent.meta}
    return _checked(kind, {**body, "metadata": meta}, warnings)


def deleting(old: Json, now: str) -> Json | None:
    """None if it can go at once; the marked object if finalizers hold it."""
    if not old["metadata"].get("finalizers"):
        return None
    return {**old, "metadata": {"deletionGracePeriodSeconds": 0, **old["metadata"], "deletionTimestamp": now}}


def finished(body: Json) -> bool:
    """Whether a deletion only waited for the finalizers that are gone now."""
    return "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers")


def hold_to(kind: Kind, old: Json, resource_version: str, uid: str) -> None:
    """Raises Conflict unless the object is the very one that the client means."""
    name = old["metadata"]["name"]
    if uid and uid != old["metadata"]["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
        raise conflict(kind.group, kind.plural, name, why)
    if resource_version not in ("", "0", old["metadata"]["resourceVersion"]):
        why = "the object has been modified; please apply your changes to the latest version and try again"
        raise conflict(kind.group, kind.plural, name, why)


def _same_name(old: Json, sent: Sent) -> None:
    name = old["metadata"]["name"]
    if sent.name not in ("", name):
        raise bad_request(f"the name of the object ({sent.name}) does not match the name on the URL ({name})")


def _kept_meta(old: Json, sent: Json) -> Json:
    own = {k: v for k, v in old["metadata"].items() if k in (*SERVERS_OWN, "name", "namespace", "generateName")}
    return {**sent, **own}


def _counts(kind: Kind) -> bool:
    return kind.custom


def _without(body: Json, *keys: str) -> Json:
    return {k: v for k, v in body.items() if k not in keys}


def _checked(kind: Kind, body: Json, warnings: list[str]) -> Json:
    """Defaults, pruning, then every fault at once. Paths of pruned fields are added to `warnings`."""
    if kind.custom and kind.schema:
        body = schema.complete_top(kind.schema, body, warnings)
    causes = [*_meta_faults(kind, body["metadata"])]
    if kind.custom and kind.schema:
        causes += schema.faults(kind.schema, body)
    elif kind.id == kinds.CRD.id:
        causes += definitions.crd_faults(body)
    if causes:
        raise invalid(kind.group, kind.kind, body["metadata"].get("name", ""), causes)
    return body


def _meta_faults(kind: Kind, meta: Json) -> list[Cause]:
    keys = [(where, key) for where in ("labels", "annotations") for key in meta.get(where, {})]
    return [
        *_name_faults(kind, meta.get("name", "")),
        *(_fault(f"metadata.{where}", key, _KEY_RULE) for where, key in keys if not _is_key(key)),
        *(_fault("metadata.labels", v, why) for v in meta.get("labels", {}).values() if (why := _value_fault(v))),
    ]


def _name_faults(kind: Kind, name: str) -> Iterator[Cause]:
    if not name:
        yield Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
        return
    rule, limit, text = _NAME, NAME_LIMIT_CHARACTERS, _NAME_RULE
    if kind.id == kinds.NAMESPACE.id:
        rule, limit, text = _LABEL, NAMESPACE_LIMIT_CHARACTERS, _NAMESPACE_RULE
    if len(name) > limit:
        yield _fault("metadata.name", name, f"must be no more than {limit} characters")
    elif not rule.fullmatch(name):
        yield _fault("metadata.name", name, text)


def _is_key(key: str) -> bool:
    prefix, _, name = key.rpartition("/")
    return bool(_LABEL_KEY.fullmatch(name)) and len(name) <= 63 and (not prefix or bool(_NAME.fullmatch(prefix)))


def _value_fault(value: str) -> str:
    if len(value) > 63:
        return "must be no more than 63 characters"
    return "" if _LABEL_VALUE.fullmatch(value) else _VALUE_RULE


def _fault(field: str, value: str, why: str) -> Cause:
    return Cause("FieldValueInvalid", f'Invalid value: "{value}": {why}', field)


def keeps_uid(kind: Kind, old: Json, patched: Json) -> None:
    """Raises Invalid if a patch means another uid: it holds to none, as a whole update and a deletion do."""
    meta = patched.get("metadata")
    uid = meta.get("uid") if isinstance(meta, dict) else None
    if isinstance(uid, str) and uid not in ("", old["metadata"]["uid"]):
        cause = _fault("metadata.uid", uid, "field is immutable")
        raise invalid(kind.group, kind.kind, old["metadata"]["name"], [cause])


def stamped(body: Json, revision: int) -> Json:
    return {**body, "metadata": {**body["metadata"], "resourceVersion": str(revision)}}


def without_owner(body: Json, uid: str) -> Json:
    """The object without its reference to that owner (`propagationPolicy: Orphan`)."""
    left = [o for o in body["metadata"].get("ownerReferences", []) if o["uid"] != uid]
    meta = _without(body["metadata"], "ownerReferences") | ({"ownerReferences": left} if left else {})
    return {**body, "metadata": meta}


def requires_revision(kind: Kind, sent: Sent) -> None:
    """A whole update of a custom object must say which one it saw."""
    if kind.custom and not sent.resource_version:
        cause = Cause(
            "FieldValueInvalid", "Invalid value: 0x0: must be specified for an update", "metadata.resourceVersion"
        )
        raise invalid(kind.group, kind.kind, sent.name, [cause])

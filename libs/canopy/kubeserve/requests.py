"""Reading a request: which object its path names, what its query and headers ask for. Pure; `app.py` calls it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import yaml

from canopy.kubeserve import patches, protobuf
from canopy.kubeserve.kinds import Kind, Kinds
from canopy.kubeserve.selectors import Selector, parse
from canopy.kubeserve.status import ApiError, Json, bad_request, no_such_path, not_acceptable, unsupported_media
from canopy.kubeserve.verbs import Target, Write

Query = Mapping[str, str]
_JSON = "application/json"
_PATCHES = (patches.MERGE, patches.JSON_PATCH, patches.STRATEGIC)
WATCH_DEFAULT_SECONDS = 1_800
WATCH_LIMIT_SECONDS = 3_600


def target(kinds: Kinds, path: str) -> Target:
    """What a path under /api or /apis names. Raises NotFound for what is not served."""
    parts = path.strip("/").split("/")
    if "" in parts or parts[0] not in ("api", "apis") or len(parts) < (2 if parts[0] == "api" else 3):
        raise no_such_path(path)
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    if not rest:
        raise no_such_path(path)
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = kinds.find(group, rest[0])
    if kind is None or kind.version != version or len(rest) > 3:
        raise no_such_path(path)
    name, subresource = (*rest[1:], "", "")[:2]
    _fits(kind, path, namespace, name, subresource)
    return Target(kind, namespace, name, subresource)


def _fits(kind: Kind, path: str, namespace: str, name: str, subresource: str) -> None:
    scoped = not namespace if not kind.namespaced else bool(namespace or not name)
    if not scoped or (subresource and not (subresource == "status" and kind.status)):
        raise no_such_path(path)


def selector(kind: Kind, query: Query) -> Selector:
    return parse(query.get("labelSelector", ""), query.get("fieldSelector", ""), kind.fields)


def flag(query: Query, name: str) -> bool:
    return query.get(name, "") in ("true", "1")


def number(query: Query, name: str, default: int) -> int:
    text = query.get(name, "")
    if text and not (text.isdecimal() and len(text) < 19):
        raise bad_request(f"{name} must be a number, not {text!r}")
    return int(text) if text else default


def write(query: Query, options: Json | None = None) -> Write:
    """How a write is meant. Kubernetes' default is to warn of unknown fields."""
    dry = query.get("dryRun") or (options or {}).get("dryRun") or []
    if dry and dry not in ("All", ["All"]):
        raise bad_request(f"dryRun must be All, not {dry!r}")
    validation = query.get("fieldValidation", "Warn")
    if validation not in ("Strict", "Warn", "Ignore"):
        raise bad_request(f"fieldValidation must be Strict, Warn or Ignore, not {validation!r}")
    return Write(dry=bool(dry), strict=validation == "Strict")


def body(media_type: str, content: bytes) -> Any:
    """The decoded body; an empty one is None."""
    media_type = media_type.partition(";")[0].strip()
    if not content:
        return None
    if media_type == "application/yaml":
        return _yaml(content)
    if media_type == protobuf.MEDIA_TYPE:
        return protobuf.decode(content)
    if media_type not in ("", _JSON, *_PATCHES):
        raise unsupported_media(_why_not(media_type))
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the body is not JSON: {error}") from error


def _why_not(media_type: str) -> str:
    if media_type.startswith("application/apply-patch"):
        return "kubeserve has no server-side apply (it keeps no managedFields): use a plain `kubectl apply`"
    return f"kubeserve reads {_JSON}, application/yaml and patches, not {media_type}"


def _yaml(content: bytes) -> Any:
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise bad_request(f"the body is not YAML: {error}") from error


@dataclass(frozen=True, slots=True)
class Form:
    """How the answer is wanted: plain, or as a Table with this much of each object."""

    table: bool = False
    include: str = "Metadata"


def form(accept: str, query: Query) -> Form:
    """The first media type of Accept that can be served."""
    for wanted in (accept or _JSON).split(","):
        media_type, *parameters = (p.strip() for p in wanted.split(";"))
        given = dict(p.split("=", 1) for p in parameters if "=" in p)
        if media_type not in (_JSON, "application/*", "*/*"):
            continue
        if given.get("as") == "Table" and given.get("v") == "v1":
            return Form(True, query.get("includeObject") or "Metadata")
        if "as" not in given:
            return Form()
    raise not_acceptable(accept)


def unsupported_list(query: Query) -> None:
    """What a list may ask for and kubeserve does not do. `limit` is passed over: everything comes in one page."""
    if query.get("continue"):
        raise ApiError(410, "Expired", "kubeserve gives no continue tokens: list again without one")
    if flag(query, "sendInitialEvents"):
        raise ApiError(
            422, "Invalid", "sendInitialEvents: Forbidden: kubeserve has no streaming lists; list, then watch"
        )

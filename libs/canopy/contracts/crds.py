"""The CustomResourceDefinitions of the device API, generated from the models in `devices.py`.

Pure. kubeserve installs them at start; `canopy install` and deploy/k8s/crds write them to a real cluster.
"""

from typing import Any

import msgspec
from msgspec import inspect

from canopy.contracts import devices

Json = dict[str, Any]

_ANYTHING: Json = {"x-kubernetes-preserve-unknown-fields": True}
_STATE = {"name": "State", "type": "string", "jsonPath": ".status.state"}
_LAST_ONLINE = {"name": "Last Online", "type": "string", "jsonPath": ".status.lastOnlineTime"}
_READY = {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}
_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def crds() -> list[Json]:
    """The manifests of DeviceModel, Device and DeviceStatus, ready to be sent as JSON or dumped as YAML."""
    return [
        _crd(devices.DeviceModel, devices.DEVICE_MODELS, "dm", [_column("Protocol", ".spec.protocol"), _AGE], False),
        _crd(
            devices.Device,
            devices.DEVICES,
            "",
            [
                _column("Model", ".spec.deviceModelRef.name"),
                _column("Node", ".spec.nodeName"),
                _column("Protocol", ".spec.protocol.protocolName"),
                _READY,
                _AGE,
            ],
            True,
        ),
        _crd(devices.DeviceStatus, devices.DEVICE_STATUSES, "ds-device", [_STATE, _LAST_ONLINE, _AGE], True),
    ]


def _column(name: str, path: str) -> Json:
    return {"name": name, "type": "string", "jsonPath": path}


def _crd(shape: type[msgspec.Struct], plural: str, short: str, columns: list[Json], status: bool) -> Json:
    version: Json = {
        "name": devices.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": object_schema(shape)},
        "additionalPrinterColumns": columns,
    }
    if status:
        version["subresources"] = {"status": {}}
    kind = shape.__name__
    names: Json = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    if short:
        names["shortNames"] = [short]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{devices.GROUP}"},
        "spec": {"group": devices.GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def object_schema(shape: type[msgspec.Struct]) -> Json:
    """The structural schema of a whole object; metadata is Kubernetes' own and stays `object`."""
    schema = _schema(inspect.type_info(shape))
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _schema(node: inspect.Type) -> Json:
    match node:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return {**_schema(inner), **(extra or {})}
        case inspect.UnionType(types=types):
            return _schema(next(t for t in types if not isinstance(t, inspect.NoneType)))
        case inspect.StructType():
            return _struct(node)
        case inspect.DictType(value_type=inspect.AnyType()):
            return {"type": "object", **_ANYTHING}
        case inspect.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _schema(value)}
        case inspect.VarTupleType(item_type=item):
            return {"type": "array", "items": _schema(item)}
        case inspect.LiteralType(values=values):
            return {"type": "string", "enum": list(values)}
        case inspect.IntType():
            return {"type": "integer", "format": "int64"}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.StrType():
            return {"type": "string"}
    raise TypeError(f"no schema for {node}")


def _struct(node: inspect.StructType) -> Json:
    schema: Json = {"type": "object", "properties": {f.encode_name: _schema(f.type) for f in node.fields}}
    doc = " ".join((node.cls.__doc__ or "").split())
    required = [f.encode_name for f in node.fields if f.required]
    return {"description": doc, **schema, **({"required": required} if required else {})}

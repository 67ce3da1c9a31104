"""Reads a kubeconfig: one context of it, with every path absolute. `connection` opens it, the demo pins it.

Errors name the file, what is wrong in it, and what would be right: a person has to mend it.
"""

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from canopy.kube.errors import KubeError

Json = dict[str, Any]
_CLUSTER_FILES = ("certificate-authority",)
_USER_FILES = ("client-certificate", "client-key", "tokenFile")


class NoCluster(KubeError):
    """The kubeconfig cannot be read, or there is none and this is no pod."""


def read(path: Path, context: str = "") -> Json:
    """The kubeconfig with nothing but `context` (empty: its current-context). Raises NoCluster."""
    config = _loaded(path)
    contexts = _named(config, "contexts", "context", path)
    name = context or config.get("current-context") or ""
    known = ", ".join(sorted(contexts)) or "none"
    if not name:
        raise NoCluster(f"{path} names no current-context: say which one is meant; it has {known}")
    if name not in contexts:
        raise NoCluster(f"{path} has no context {name!r}; it has {known}")
    cluster = _referred(config, contexts[name], "cluster", path, name)
    if not str(cluster.get("server", "")).startswith(("http://", "https://")):
        raise NoCluster(f"{path}: the cluster of context {name!r} has no `server` (https://HOST:PORT)")
    user = _referred(config, contexts[name], "user", path, name) if contexts[name].get("user") else {}
    folder = path.absolute().parent
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": _absolute(cluster, _CLUSTER_FILES, folder)}],
        "users": [{"name": name, "user": _absolute(user, _USER_FILES, folder)}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def with_files(config: Json, folder: Path) -> Json:
    """The same with `...-data` written into files of `folder`: TLS reads files only. Raises NoCluster."""
    cluster = _from_data(config["clusters"][0]["cluster"], _CLUSTER_FILES, folder)
    user = _from_data(config["users"][0]["user"], _USER_FILES, folder)
    name = config["current-context"]
    return {**config, "clusters": [{"name": name, "cluster": cluster}], "users": [{"name": name, "user": user}]}


def _loaded(path: Path) -> Json:
    try:
        found = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise NoCluster(f"there is no kubeconfig {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise NoCluster(f"the kubeconfig {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise NoCluster(f"{path} is no kubeconfig: it is not YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(found, dict) or not found.get("contexts"):
        raise NoCluster(f"{path} is no kubeconfig: it has no `contexts`")
    return found


def _named(config: Json, key: str, inner: str, path: Path) -> dict[str, Json]:
    """The entries of a list by name. Raises NoCluster where it is no such list."""
    entries = config.get(key) or []
    try:
        return {entry["name"]: dict(entry.get(inner) or {}) for entry in entries}
    except (TypeError, KeyError, AttributeError, ValueError):
        raise NoCluster(f"{path} is no kubeconfig: `{key}` should be a list of {{name, {inner}}}") from None


def _referred(config: Json, context: Json, what: str, path: Path, name: str) -> Json:
    entries = _named(config, f"{what}s", what, path)
    wanted = context.get(what)
    if wanted not in entries:
        raise NoCluster(f"{path}: context {name!r} means {what} {wanted!r}, which is not there")
    return entries[wanted]


def _absolute(section: Json, keys: Iterable[str], folder: Path) -> Json:
    """Paths in a kubeconfig are relative to its own folder."""
    return {**section, **{key: str(folder / section[key]) for key in keys if section.get(key)}}


def _from_data(section: Json, keys: Iterable[str], folder: Path) -> Json:
    found = dict(section)
    for key in keys:
        if data := found.pop(f"{key}-data", None):
            file = folder / key
            file.touch(mode=0o600)
            file.write_bytes(_decoded(data, key))
            found[key] = str(file)
        if key in found and not Path(found[key]).is_file():
            raise NoCluster(f"the kubeconfig's {key} {found[key]} is not there")
    return found


def _decoded(data: object, key: str) -> bytes:
    try:
        return base64.b64decode(str(data), validate=True)
    except (binascii.Error, ValueError):
        raise NoCluster(f"the kubeconfig's {key}-data is not base64") from None

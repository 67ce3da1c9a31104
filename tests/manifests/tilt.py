"""The Tiltfile evaluated with Tilt's builtins stubbed, each with the parameters that Tilt documents."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import starlark
from rendering import ROOT

FOLDER = ROOT / "tilt"
TILTFILE = FOLDER / "Tiltfile"
MODULES = """
os = struct(getenv=_getenv, path=struct(abspath=_abspath, exists=_exists))
"""

Json = dict[str, Any]


@dataclass
class Tilt:
    """Calls by the builtin's name, each with its arguments by their names. `environment` is what os.getenv sees."""

    environment: dict[str, str] = field(default_factory=dict)
    calls: dict[str, list[Json]] = field(default_factory=dict)

    def evaluate(self) -> "Tilt":
        """Run the Tiltfile. Raises StarlarkError, or TypeError for a parameter that Tilt does not have."""
        module = starlark.Module()
        for name, builtin in self._builtins().items():
            module.add_callable(name, builtin)
        module["TRIGGER_MODE_AUTO"], module["TRIGGER_MODE_MANUAL"] = "auto", "manual"
        world = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
        for name, text in (("modules", MODULES), (TILTFILE.name, TILTFILE.read_text())):
            starlark.eval(module, starlark.parse(name, text, _dialect()), world)
        return self

    def of(self, builtin: str) -> list[Json]:
        return self.calls.get(builtin, [])

    def _builtins(self) -> dict[str, Callable[..., Any]]:
        return {
            "_getenv": lambda key, default=None: self.environment.get(key, default),
            "_abspath": lambda path: os.path.normpath(FOLDER / path),
            "_exists": lambda path: (FOLDER / path).exists(),
            "allow_k8s_contexts": self._kept("allow_k8s_contexts", "contexts"),
            "default_registry": self._kept("default_registry", "host host_from_cluster single_name"),
            "custom_build": self._kept("custom_build", "ref command deps tag ignore live_update entrypoint"),
            "sync": self._kept("sync", "local_path remote_path"),
            "run": self._kept("run", "cmd trigger"),
            "k8s_yaml": self._kept("k8s_yaml", "yaml allow_duplicates"),
            "kustomize": self._kept("kustomize", "pathToDir kustomize_bin flags"),
            "k8s_resource": self._kept(
                "k8s_resource", "workload new_name port_forwards trigger_mode resource_deps objects links labels"
            ),
            "port_forward": self._kept("port_forward", "local_port container_port name link_path host"),
            "local_resource": self._kept(
                "local_resource", "name cmd deps trigger_mode resource_deps auto_init links labels dir"
            ),
            "local": _local,
            "decode_json": json.loads,
        }

    def _kept(self, builtin: str, parameters: str) -> Callable[..., Json]:
        names = parameters.split()

        def call(*values: Any, **named: Any) -> Json:
            if unknown := named.keys() - set(names):
                raise TypeError(f"{builtin} has no parameter {', '.join(sorted(unknown))}")
            given = {**dict(zip(names, values, strict=False)), **named}
            self.calls.setdefault(builtin, []).append(given)
            return {"call": builtin, **given}

        return call


def _local(command: list[str], quiet: bool = False, dir: str = "") -> str:
    ran = subprocess.run(command, cwd=Path(FOLDER / dir), check=True, capture_output=True, text=True, timeout=30)
    return ran.stdout


def _dialect() -> starlark.Dialect:
    dialect = starlark.Dialect.extended()
    dialect.enable_top_level_stmt = True
    return dialect

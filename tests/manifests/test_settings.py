"""Every variable that we set is a setting that the unit really has, with a value that it takes."""

import re
from importlib import import_module
from typing import Any

import pytest
from rendering import Json, Manifests, Pod

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY, SPIRE_INTEGRATION
from canopy.runtime.settings import Shared, UnitSettings, load, variables

SECRET = "p0123456789"
OF_THE_LEAF = ("CANOPY_EDGEIDENTITY_MQTT_LISTEN", "CANOPY_EDGEIDENTITY_LEAF_LISTEN")
"""Where the leaf listens, in a container of its own: edgeidentity writes that into its configuration."""


def units_in(container: Json) -> tuple[str, ...]:
    """The units that a container runs; () if it runs none."""
    name = container["name"].replace("-", "_")
    if name == "edge":
        named = [e["value"] for e in container.get("env", []) if e["name"] == "CANOPY_UNITS"]
        return tuple(named[0].split()) if named else EDGE_UNITS
    return (name,) if name in (*CLOUD_UNITS, *EDGE_UNITS, SPIRE_INTEGRATION, EDGEIDENTITY) else ()


def settings_of(units: tuple[str, ...]) -> list[type[UnitSettings]]:
    return [Shared, *(import_module(f"canopy.{unit}.settings").Settings for unit in units)]


def valued(environment: dict[str, Any]) -> dict[str, str]:
    """What a kubelet would make of it: a Secret's value, the node's name, and $(VARIABLES)."""
    found = {k: v if isinstance(v, str) else _said(v["valueFrom"]) for k, v in environment.items()}
    return {k: re.sub(r"\$\((\w+)\)", lambda m: found[m[1]], v) for k, v in found.items()}


def _said(source: Json) -> str:
    return "edge-1" if "fieldRef" in source else SECRET


def running(manifests: Manifests) -> list[tuple[Pod, Json, tuple[str, ...]]]:
    return [(pod, c, units_in(c)) for pod in manifests.pods for c in pod.lasting if units_in(c)]


def test_every_unit_of_the_planes_is_deployed(manifests: Manifests) -> None:
    found = {u for _, _, units in running(manifests) for u in units}
    assert found == {*CLOUD_UNITS, *EDGE_UNITS, SPIRE_INTEGRATION, EDGEIDENTITY}


def test_every_variable_is_a_setting_and_its_value_is_taken(
    manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pod, container, units in running(manifests):
        environment = valued(manifests.environment(pod, container))
        known = {name for cls in settings_of(units) for name, _, _ in variables(cls)}
        ours = {k: v for k, v in environment.items() if k.startswith("CANOPY_") and k != "CANOPY_UNITS"}
        assert ours.keys() <= known, f"{pod.name}/{container['name']}: {sorted(ours.keys() - known)} are no settings"
        with monkeypatch.context() as patched:
            for name, value in ours.items():
                patched.setenv(name, value)
            for cls in settings_of(units):
                load(cls)


def test_a_unit_listens_where_its_container_says(manifests: Manifests) -> None:
    for pod, container, units in running(manifests):
        environment = manifests.environment(pod, container)
        ports = {p["containerPort"] for p in container["ports"]}
        own = {k: v for k, v in environment.items() if k.endswith("_LISTEN") and k not in OF_THE_LEAF and ":" in v}
        listening = {int(v.rpartition(":")[2]) for v in own.values()}
        assert listening == ports, f"{pod.name}/{container['name']} {units}"


def test_no_unit_has_a_password_and_each_finds_who_it_is_in_memory_or_in_the_node_s_folder(
    manifests: Manifests,
) -> None:
    for pod, container, _ in running(manifests):
        environment = manifests.environment(pod, container)
        assert not {"CANOPY_NATS_USER", "CANOPY_NATS_PASSWORD"} & environment.keys(), pod.name
        assert environment["CANOPY_NATS_URL"].startswith("tls://"), pod.name
        folder = environment["CANOPY_IDENTITY_DIR"]
        mount = next(m for m in container["volumeMounts"] if folder.startswith(m["mountPath"]))
        volume = next(v for v in pod.spec["volumes"] if v["name"] == mount["name"])
        assert volume.get("emptyDir", {}).get("medium") == "Memory" or "hostPath" in volume, pod.name
        written = [c for c in pod.lasting if c["name"] == "identity"]
        assert len(written) == 1 and written[0]["restartPolicy"] == "Always", pod.name


def test_streams_have_as_many_copies_as_the_hub_has_servers(manifests: Manifests) -> None:
    servers = next(p.replicas for p in manifests.pods if p.name == "nats")
    for pod, container, units in running(manifests):
        if units[0] in CLOUD_UNITS:
            assert manifests.environment(pod, container)["CANOPY_STREAM_REPLICAS"] == str(servers)

"""What the identities of a deployment hang on: whom SPIRE is told to know is who runs there, on Kubernetes and in
compose; the hub takes its file; and what is made before is complete, and kept."""

import base64
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from rendering import K8S, ROOT, Manifests, no_kubectl, render
from test_settings import settings_of

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY
from canopy.identity import ids, keys
from canopy.identity.hubkeys import HubKeys
from canopy.identity.joinroot import endpoint, new
from canopy.runtime.settings import variables
from canopy.spire_integration import entries
from canopy.testing.servers import nats_binary

COMPOSE = ROOT / "deploy/compose/identity"
TD = "fleet.test"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
NOT_OURS = ("redis", "spire-server", "spire-entries", "spire-agent", "edge-1-cli")


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"deploy_{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


identity, prepare = _module(K8S / "identity.py"), _module(COMPOSE / "prepare.py")


@pytest.fixture(scope="module")
def trusted() -> Manifests:
    if missing := no_kubectl():
        pytest.skip(missing)
    return render("ci-identity")


def listed(nodes: list[str]) -> list[entries.Entry]:
    return list(entries.read(identity.entries(nodes, identity.HUB_NAMES)["entries.json"].encode(), TD))


def words(first: str) -> dict[str, set[str]]:
    """The lines of what entries.sh reads, by path."""
    return {line.split()[0]: set(line.split()[1:]) for line in first.splitlines()}


# --- Kubernetes -------------------------------------------------------------------------------------------------------
def test_every_unit_of_the_cloud_the_hub_and_each_node_has_an_entry_and_nobody_else() -> None:
    found = {entry.id for entry in listed(["a", "b.c"])}
    units = {ids.cloud(TD, unit) for unit in CLOUD_UNITS}  # spire_integration is registered first, and kept by nobody
    assert found == units | {ids.hub(TD), ids.node(TD, "a"), ids.node(TD, "b.c")}


def test_an_entry_means_the_pods_of_one_workload(trusted: Manifests) -> None:
    for entry in listed(["worker-1"]):
        found = dict(selector.split(":", 2)[1:] for selector in entry.selectors)
        pods = [p for p in trusted.pods if (p.namespace, p.spec["serviceAccountName"]) == (found["ns"], found["sa"])]
        names = {p.name for p in pods if p.kind != "Job"}  # a Job of the overlay makes folders, as the edge's account
        of = {"hub": "nats", "node": "edge"}.get(entry.id.segments[0], entry.id.segments[-1].replace("_", "-"))
        assert names == {of}, entry.id


def test_only_the_agent_of_a_node_gets_that_node_s_certificate() -> None:
    first = words(identity.entries(["a", "b"], ())["first"])
    for entry in listed(["a", "b"]):
        if entry.id.segments[0] == "node":
            node = entry.id.segments[1]
            assert entry.parent.path == f"/agents/{node}"
            assert {"node", "parent:spire/server", f"k8s_psat:agent_node_name:{node}"} <= first[f"agents/{node}"]


def test_what_is_registered_first_is_what_is_kept_later() -> None:
    """Else the two that register would undo each other's work."""
    for text, kept in ((identity.entries([], identity.HUB_NAMES)["first"], listed([])), (_first(), _kept())):
        found = {path: more for path, more in words(text).items() if "node" not in more}
        assert set(found) == {"cloud/spire_integration", "hub"}
        for entry in kept:
            if entry.id == ids.hub(TD):
                more = {f"parent:{entry.parent.path[1:]}", *entry.selectors, *(f"dns:{name}" for name in entry.dns)}
                more |= {f"ttl:{entry.ttl_seconds}"} if entry.ttl_seconds else set()
                assert found[entry.id.path[1:]] == more, entry.id


def test_the_hub_s_certificate_has_the_names_by_which_leaves_and_its_servers_look_for_it(trusted: Manifests) -> None:
    known = set(identity.HUB_NAMES)
    leaf = trusted.environment(*_container(trusted, "edge", "edge"))["HUB"]["valueFrom"]["configMapKeyRef"]["name"]
    config = trusted.named("ConfigMap", "canopy-edge", leaf)
    assert config and config["data"]["HUB"].split(":")[0] in known
    routes = [v for k, v in trusted.environment(*_container(trusted, "nats", "nats")).items() if "ROUTE_" in k]
    assert {route.rpartition("@")[2].split(":")[0] for route in routes} <= known and len(routes) == 3


def test_nats_server_takes_the_hub_s_file_with_the_keys_that_are_made_before(
    trusted: Manifests, tmp_path: Path
) -> None:
    items = {i["metadata"]["name"]: i for i in identity.manifests({}, [], (), TD)["items"]}
    pod, container = _container(trusted, "nats", "nats")
    hub = next(v["configMap"]["name"] for v in pod.spec["volumes"] if v["name"] == "config")
    config = trusted.named("ConfigMap", pod.namespace, hub)
    assert config is not None
    pem = endpoint(new(TD, time.time()), TD, time.time())
    (tmp_path / "svid.pem").write_bytes(pem)
    (tmp_path / "bundle.pem").write_bytes(pem[pem.index(b"-----BEGIN CERT") :])
    text = config["data"]["hub.conf"].replace("/var/lib/canopy", str(tmp_path)).replace("/run/canopy", str(tmp_path))
    (tmp_path / "hub.conf").write_text(text)
    given = {k: _valued(v, items) for k, v in trusted.environment(pod, container).items()}
    command = [nats_binary(), "-t", "-c", tmp_path / "hub.conf"]
    ran = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    assert len({given[f"CANOPY_NKEY_{n}"] for n in ("ISSUER", "AUTH", "CLOUD", "SYS")}) == 4


def test_keys_that_are_there_stay_and_pods_find_what_they_mount(trusted: Manifests, tmp_path: Path) -> None:
    made = {i["metadata"]["name"]: i for i in identity.manifests({}, ["a"], (), TD)["items"]}
    there = {k: base64.b64decode(v) for k, v in made["canopy-hub-keys"]["data"].items()}
    again = {i["metadata"]["name"]: i for i in identity.manifests(there, ["a", "b"], (), TD)["items"]}
    assert again["canopy-hub-keys"] == made["canopy-hub-keys"] and again["canopy-hub-nkeys"] == made["canopy-hub-nkeys"]
    for name, value in there.items():
        (tmp_path / name).write_bytes(value)
    assert HubKeys.read(tmp_path).sys.public == made["canopy-hub-nkeys"]["data"]["sys"]
    for pod in trusted.pods:
        named = [v["configMap"]["name"] for v in pod.spec["volumes"] if "configMap" in v]
        named += [
            e["valueFrom"]["configMapKeyRef"]["name"] for c in pod.containers for e in c.get("env", []) if _ref(e)
        ]
        assert all(trusted.named("ConfigMap", pod.namespace, n) or n in made for n in named), (pod.name, named)


def test_nobody_but_spire_integration_mounts_the_keys_of_the_hub(trusted: Manifests) -> None:
    holding = {
        p.name
        for p in trusted.pods
        for v in p.spec["volumes"]
        if v.get("secret", {}).get("secretName") == "canopy-hub-keys"
    }
    assert holding == {"spire-integration"}


@pytest.mark.parametrize("overlay", ["ci-identity", "production"])
def test_the_trust_domain_is_one_everywhere(overlay: str, trusted: Manifests) -> None:
    trusted = render(overlay)
    found = [
        m["data"]["CANOPY_TRUST_DOMAIN"] for m in trusted.of("ConfigMap") if "CANOPY_TRUST_DOMAIN" in m.get("data", {})
    ]
    assert len(found) == 3 and len(set(found)) == 1


def _ref(entry: dict[str, Any]) -> bool:
    return "configMapKeyRef" in entry.get("valueFrom", {})


def _container(manifests: Manifests, workload: str, name: str) -> tuple[Any, dict[str, Any]]:
    pod = next(p for p in manifests.pods if p.name == workload)
    return pod, next(c for c in pod.containers if c["name"] == name)


def test_what_is_registered_first_knows_the_pods_of_spire_integration(trusted: Manifests) -> None:
    found = words(identity.entries([], ())["first"])["cloud/spire_integration"]
    pod, _ = _container(trusted, "spire-integration", "spire-integration")
    assert {f"k8s:ns:{pod.namespace}", f"k8s:sa:{pod.spec['serviceAccountName']}"} <= found


def _valued(value: Any, made: dict[str, Any]) -> str:
    if isinstance(value, str):
        return value
    if ref := value["valueFrom"].get("configMapKeyRef"):
        return str(made[ref["name"]]["data"][ref["key"]])
    return "p0"


# --- compose ----------------------------------------------------------------------------------------------------------
def _first() -> str:
    return (COMPOSE / "spire/first").read_text()


def _kept() -> tuple[entries.Entry, ...]:
    return entries.read((COMPOSE / "spire/entries.json").read_bytes(), TD)


def _group(service: str) -> str:
    return str(SERVICES[service]["user"]).partition(":")[2]


def test_in_compose_a_group_is_one_unit_s_and_its_helper_s() -> None:
    groups = {entry.id.path: dict(s.split(":")[1:] for s in entry.selectors)["gid"] for entry in _kept()}
    own = next(word for word in words(_first())["cloud/spire_integration"] if word.startswith("unix:gid:"))
    groups["/cloud/spire_integration"] = own.rpartition(":")[2]
    assert len(set(groups.values())) == len(groups) == len(CLOUD_UNITS) + 2
    for path, group in groups.items():
        service = path.rpartition("/")[2].replace("_", "-")
        same = {name for name in SERVICES if _group(name) == group}
        assert same - {"hub"} == {f"{service}-identity", service} - {"hub"}, path


def test_in_compose_an_identity_is_in_memory_and_only_its_unit_and_its_helper_see_it() -> None:
    volumes = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["volumes"]
    for name in [name for name in SERVICES if name.endswith("-identity")]:
        volume = f"identity-{name.removesuffix('-identity')}"
        assert volumes[volume]["driver_opts"]["type"] == "tmpfs" and "mode=0700" in volumes[volume]["driver_opts"]["o"]
        holders = {n for n, one in SERVICES.items() if any(v.startswith(f"{volume}:") for v in one.get("volumes", ()))}
        assert holders == {name, name.removesuffix("-identity")}
        assert SERVICES[name]["network_mode"] == "none"


def test_in_compose_every_container_is_bounded_and_ports_are_on_loopback() -> None:
    for name, one in SERVICES.items():
        assert one["read_only"] and one["cap_drop"] == ["ALL"] and one["mem_limit"] and one["pids_limit"], name
        assert one["security_opt"] == ["no-new-privileges:true"] and one["restart"] == "unless-stopped", name
        assert not str(one["user"]).startswith(("0:", "root")) and "depends_on" not in one, name
        assert all(":-127.0.0.1:" in port for port in one.get("ports", ())), name
    assert [name for name, one in SERVICES.items() if one.get("pid") == "host"] == ["spire-agent"]


@pytest.mark.parametrize("name", [n for n in SERVICES if n not in NOT_OURS])
def test_in_compose_what_a_unit_is_told_is_a_setting_of_it_and_no_password(name: str) -> None:
    image = SERVICES[name]["image"].replace("${CANOPY_PREFIX:-canopy/}", "").partition(":$")[0]
    told = {k for k in SERVICES[name].get("environment", {}) if k.startswith("CANOPY_")}
    if image in ("nats", "identity", "kubeserve", "light"):
        assert all(k.startswith("CANOPY_NKEY_") for k in told)
        return
    units = (EDGEIDENTITY, *EDGE_UNITS) if image == "edge" else (image,)
    known = {variable for cls in settings_of(units) for variable, _, _ in variables(cls)}
    assert told <= known | {"CANOPY_UNITS"}
    assert not [k for k in told if "PASSWORD" in k or k.endswith("NATS_USER")]


def test_in_compose_what_is_prepared_is_complete_and_kept(tmp_path: Path) -> None:
    first = prepare.written(tmp_path, TD)
    kept = {p: p.read_bytes() for p in (tmp_path / "generated").rglob("*") if p.is_file()}
    assert prepare.written(tmp_path, "other.test") == first and first["CANOPY_TRUST_DOMAIN"] == TD
    assert {p: p.read_bytes() for p in kept} == kept
    assert "password" not in (tmp_path / "generated/hub.conf").read_text()
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0 and (tmp_path / "generated").stat().st_mode & 0o077 == 0
    keys.load((tmp_path / "generated/agent.key").read_bytes())
    wanted = set(first)
    text = (COMPOSE / "compose.yaml").read_text()
    for name in (word.partition("}")[0] for word in text.split("${")[1:]):
        variable, _, default = name.partition(":")
        assert default.startswith("-") or variable in wanted, variable


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="no docker-compose here")
def test_compose_reads_the_one_with_identities(tmp_path: Path) -> None:
    shutil.copy(COMPOSE / "compose.yaml", tmp_path)
    prepare.written(tmp_path, TD)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CANOPY_", "COMPOSE_"))}
    command = ["docker-compose", "config"]
    read = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert not read.returncode, read.stderr


def test_the_script_that_registers_first_is_a_script() -> None:
    assert subprocess.run(["sh", "-n", K8S / "base/spire-server/entries.sh"], timeout=30).returncode == 0


def test_without_a_cluster_that_answers_nothing_is_made(tmp_path: Path) -> None:
    """New keys in place of what a cluster has would lock everybody out."""
    command = [sys.executable, K8S / "identity.py"]
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1 and ran.stdout == "" and "does not say" in ran.stderr.splitlines()[-1]

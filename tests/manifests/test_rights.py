"""Verbs used = verbs granted, for every unit that asks Kubernetes; and no right on more than it needs."""

import pytest
from asked import Right, rights_of
from rendering import K8S, ROOT, Json, Manifests, read

UNITS = sorted(p.parent.name for p in ROOT.glob("services/canopy/*/unit.py"))
IN_A_PART = ("leases", "secrets", "configmaps", "pods", "serviceaccounts")
NAMED = {"namespaces"}
"""Kinds of which a unit may read only what is named."""


OTHERS = ("spire-server", "spire-agent", "spire-agent-edge")
"""Programs that are not ours; what they ask of Kubernetes is said by their documentation, and was tried."""


def documents(unit: str) -> list[Json]:
    path = K8S / "base" / unit / "rbac.yaml"
    return read(path.read_text()) if path.exists() else []


def rules(unit: str, kind: str = "") -> list[Json]:
    return [
        r for d in documents(unit) if d["kind"] in ((kind,) if kind else ("Role", "ClusterRole")) for r in d["rules"]
    ]


def granted(unit: str) -> set[Right]:
    return {
        Right(group, resource, verb)
        for rule in rules(unit)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_granted_just_what_its_code_asks(unit: str) -> None:
    assert sorted(granted(unit)) == sorted(rights_of(unit))


@pytest.mark.parametrize("unit", [*UNITS, *OTHERS])
def test_no_rule_has_a_wildcard(unit: str) -> None:
    for rule in rules(unit):
        words = [w for key in ("apiGroups", "resources", "verbs", "resourceNames") for w in rule.get(key, [])]
        assert "*" not in words and "nonResourceURLs" not in rule


@pytest.mark.parametrize("unit", [*UNITS, *OTHERS])
def test_a_right_in_all_namespaces_is_only_for_what_is_in_all_of_them(unit: str) -> None:
    everywhere = {r for rule in rules(unit, "ClusterRole") for r in rule["resources"] if "resourceNames" not in rule}
    assert not everywhere & {*IN_A_PART, *NAMED}


def test_a_lease_of_an_election_is_named_wherever_a_rule_can_name_it() -> None:
    for unit in ("devicecontroller", "edgecontroller"):
        own = next(d for d in documents(unit) if d["kind"] == "Role" and d["metadata"]["namespace"] == "canopy")
        verbs = {v: rule.get("resourceNames") for rule in own["rules"] for v in rule["verbs"]}
        assert verbs == {"create": None, "get": [f"canopy-{unit}"], "update": [f"canopy-{unit}"]}


def test_every_account_is_bound_to_its_own_roles_and_to_no_other(manifests: Manifests) -> None:
    for binding in manifests.of("RoleBinding", "ClusterRoleBinding"):
        subject, role = binding["subjects"][0], binding["roleRef"]
        assert len(binding["subjects"]) == 1 and role["name"].removeprefix("canopy-") == subject["name"]
        assert manifests.named("ServiceAccount", subject["namespace"], subject["name"])
        where = binding["metadata"]["namespace"] if role["kind"] == "Role" else ""
        assert manifests.named(role["kind"], where, role["name"]), role


def test_every_role_of_an_overlay_is_one_of_a_unit(manifests: Manifests) -> None:
    known = {d["metadata"]["name"] for unit in (*UNITS, *OTHERS) for d in documents(unit)}
    assert {o["metadata"]["name"] for o in manifests.of("Role", "ClusterRole")} <= known


def test_a_kind_that_the_reader_cannot_see_is_said(tmp_path) -> None:
    from asked import _of_file

    source = tmp_path / "adapter.py"
    source.write_text("async def f(kube, kind):\n    await kube.delete(kind, 'a', 'b')\n")
    with pytest.raises(AssertionError, match="say the kind"):
        list(_of_file(source))

"""What becomes of an object: metadata, subresources, CRDs."""

from typing import Any

import pytest

from canopy.contracts.crds import crds
from canopy.kubeserve import objects
from canopy.kubeserve.definitions import crd_faults, custom_kind
from canopy.kubeserve.kinds import Kind
from canopy.kubeserve.status import ApiError

DEVICE = next(k for k in map(custom_kind, crds()) if k.kind == "Device")
NOW = "2026-01-01T00:00:00Z"


def create(body: Any, kind: Kind = DEVICE) -> dict[str, Any]:
    sent = objects.read(kind, "default" if kind.namespaced else "", body)
    made = objects.created(kind, sent, "uid-1", "abcde", NOW, [])
    return objects.stamped(made, 7)


def update(old: dict[str, Any], body: Any) -> dict[str, Any]:
    return objects.updated(DEVICE, old, objects.read(DEVICE, "default", body), [])


def test_the_servers_own_fields_cannot_be_sent() -> None:
    sent = {
        "name": "d",
        "uid": "mine",
        "creationTimestamp": "1999",
        "generation": 9,
        "selfLink": "x",
        "managedFields": [],
    }
    meta = create({"metadata": sent, "status": {"state": "online"}})
    assert meta["metadata"] == {
        "name": "d",
        "namespace": "default",
        "uid": "uid-1",
        "creationTimestamp": NOW,
        "generation": 1,
        "resourceVersion": "7",
    }
    assert "status" not in meta


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"metadata": {"name": "D"}}, "metadata.name"),
        ({"metadata": {"name": "a/b"}}, "metadata.name"),
        ({"metadata": {"name": "x" * 254}}, "253"),
        ({"metadata": {}}, "generateName"),
        ({"metadata": {"name": "d", "labels": {"a": 1}}}, "labels"),
        ({"metadata": {"name": "d", "labels": {"a": "-"}}}, "metadata.labels"),
        ({"metadata": {"name": "d", "namespace": "other"}}, "other"),
        ({"metadata": {"name": "d", "ownerReferences": [{}]}}, "ownerReferences"),
        ({"metadata": {"name": "d"}, "kind": "Lamp"}, "kind"),
        ({"metadata": {"name": "d"}, "apiVersion": "v1"}, "apiVersion"),
        ({"metadata": {"name": "d"}, "spec": {"methods": {}}}, "spec.methods"),
        ([], "object"),
    ],
)
def test_a_bad_object_is_refused_and_the_field_named(body: Any, word: str) -> None:
    with pytest.raises(ApiError, match=word):
        create(body)


def test_a_new_spec_raises_the_generation_and_a_new_label_does_not() -> None:
    old = create({"metadata": {"name": "d"}, "spec": {"nodeName": "a"}})
    assert update(old, {"metadata": {"name": "d"}, "spec": {"nodeName": "b"}})["metadata"]["generation"] == 2
    labelled = update(old, {"metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "a"}})
    assert labelled["metadata"]["generation"] == 1 and labelled["metadata"]["labels"] == {"x": "y"}


def test_another_uid_or_revision_is_a_conflict() -> None:
    old = create({"metadata": {"name": "d"}})
    for meta in ({"uid": "uid-2"}, {"resourceVersion": "6"}):
        with pytest.raises(ApiError) as raised:
            update(old, {"metadata": meta})
        assert raised.value.reason == "Conflict"


def test_our_crds_pass_our_own_rules_and_know_their_columns() -> None:
    for crd in crds():
        assert list(crd_faults(crd)) == []
        assert custom_kind(crd).columns[-1].name == "Age"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scope": "Everywhere"}, "spec.scope"),
        ({"group": "other.dev"}, "metadata.name"),
        ({"versions": []}, "spec.versions"),
        ({"names": {"kind": "Device"}}, "spec.names.plural"),
    ],
)
def test_a_crd_that_makes_no_sense_is_refused(change: dict[str, Any], field: str) -> None:
    crd = crds()[1]
    assert field in [c.field for c in crd_faults(crd | {"spec": crd["spec"] | change})]


def test_a_crd_that_wants_more_than_we_can_is_refused() -> None:
    crd = crds()[1]
    version = crd["spec"]["versions"][0]
    version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = []
    version["subresources"] = {"scale": {}}
    version["additionalPrinterColumns"][0]["jsonPath"] = ".a[?(@.b>1)]"
    assert len(list(crd_faults(crd))) == 3

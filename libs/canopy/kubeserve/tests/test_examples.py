"""The manifests of examples/ against the CRDs, as the server sees them."""

from pathlib import Path

import pytest
import yaml

from canopy.contracts.crds import crds
from canopy.kubeserve import schema

EXAMPLES = Path(__file__).parents[4] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("light-*.yaml")), ids=lambda p: p.name)
def test_an_example_fits_its_schema_and_has_no_unknown_field(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    crd = next(c for c in crds() if c["spec"]["names"]["kind"] == manifest["kind"])
    of = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    pruned: list[str] = []
    assert schema.complete_top(of, manifest, pruned) == manifest
    assert pruned == [] and list(schema.faults(of, manifest)) == []

"""What in deploy/ is written from the code is what the code says now. CANOPY_SNAPSHOT=1 writes it anew."""

import pytest
import yaml
from rendering import K8S, Json

from canopy.contracts.crds import crds
from canopy.testing.golden import golden


@pytest.mark.parametrize("crd", crds(), ids=lambda c: c["spec"]["names"]["plural"])
def test_the_crds_are_those_of_the_models(crd: Json) -> None:
    text = yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)
    golden(K8S / "crds" / f"{crd['spec']['names']['plural']}.yaml", text)

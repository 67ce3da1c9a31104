"""Tests of images that `make images` has built; `make images-test` builds them before."""

import pytest
from image_box import MADE_HERE, docker, name


@pytest.fixture(scope="session", autouse=True)
def _images() -> None:
    missing = [name(i) for i in MADE_HERE if not docker("image", "ls", "--quiet", name(i))]
    assert not missing, f"not built yet: {', '.join(missing)}; `make images` does"

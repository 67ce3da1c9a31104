"""Every overlay rendered once, as `kubectl apply -k` would read it; without kubectl these tests are left out."""

import pytest
from rendering import OVERLAYS, Manifests, no_kubectl, render


@pytest.fixture(scope="session", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """One overlay."""
    if missing := no_kubectl():
        pytest.skip(missing)
    return render(request.param)

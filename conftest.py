"""Every test run: what somebody has set for units of his own reaches no test, and groups of tests (`xdist_group`) stay
together on one worker; runs of unit tests alone look for garbage rarely.

pytest-xdist 3.8 tells its scheduler the group of a test by a suffix to the test's id, which it writes where pytest 9.2
no longer looks (pytest-xdist issue 1386). Without the hook each test went to any worker, and both built every world.
"""

import gc
import os

import pytest

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, TRUST_UNITS
from canopy.runtime.settings import ENV_FILE, Shared, variables

GARBAGE = (50_000, 20, 50)
"""What unit tests import and make mostly lives until the run ends: looking through it was a tenth of `make check`."""


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is collected."""
    if config.getoption("markexpr") == "not server":
        gc.set_threshold(*GARBAGE)
    _forget_settings()


def _forget_settings() -> None:
    """They are read from the environment, those of a test too."""
    of_units = tuple(f"CANOPY_{unit.upper()}_" for unit in (*CLOUD_UNITS, *EDGE_UNITS, *TRUST_UNITS))
    shared = {ENV_FILE, *(name for name, _, _ in variables(Shared))}
    for name in [name for name in os.environ if name in shared or name.startswith(of_units)]:
        del os.environ[name]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the id that xdist wrote, if it wrote one, where pytest 9.2 reads it."""
    for item in items:
        given = vars(item).get("_nodeid")
        if isinstance(given, str) and given != item.nodeid:
            item._id = type(item.id).parse(given)

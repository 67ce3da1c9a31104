"""Every test run: groups of tests (`xdist_group`) stay together on one worker.

pytest-xdist 3.8 tells its scheduler the group of a test by a suffix to the test's id, which it writes where pytest 9.2
no longer looks (pytest-xdist issue 1386). Without the hook each test went to any worker, and both built every world.
"""

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the id that xdist wrote, if it wrote one, where pytest 9.2 reads it."""
    for item in items:
        given = vars(item).get("_nodeid")
        if isinstance(given, str) and given != item.nodeid:
            item._id = type(item.id).parse(given)

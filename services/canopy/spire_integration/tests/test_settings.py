"""Settings that cannot be are refused, with what to do."""

import pytest

from canopy.runtime.settings import SettingsError, load
from canopy.spire_integration.prepare import keys_of
from canopy.spire_integration.settings import Settings

SPIRE = {"authority": "spire", "spire_socket": "/run/spire/server.sock"}


BOTH = SPIRE | {"spire_address": "spire:8081"}


@pytest.mark.parametrize(("given", "fine"), [(SPIRE, True), ({"authority": "spire"}, False), (BOTH, False)])
def test_spire_is_reached_in_one_way(given, fine):
    if fine:
        assert load(Settings, given).authority == "spire"
        return
    with pytest.raises(SettingsError, match="spire_socket"):
        load(Settings, given)


def test_missing_keys_are_told_with_the_command_that_makes_them(tmp_path):
    with pytest.raises(SettingsError, match=r"CANOPY_SPIRE_INTEGRATION_KEYS_DIR.*python -m canopy\.identity\.hubkeys"):
        keys_of(Settings(keys_dir=tmp_path))

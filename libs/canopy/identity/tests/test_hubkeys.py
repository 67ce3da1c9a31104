import pytest

from canopy.identity import hubkeys
from canopy.identity.hubkeys import HubKeys, NoKeys


def test_the_keys_are_made_once_and_for_their_owner_only(tmp_path):
    folder = tmp_path / "keys"
    made = HubKeys.ensure(folder)
    assert HubKeys.ensure(folder) == HubKeys.read(folder) == made
    assert made.issuer.public.startswith("A") and len({made.auth.public, made.cloud.public, made.sys.public}) == 3
    assert all(path.stat().st_mode & 0o77 == 0 for path in (folder, *folder.iterdir()))
    assert f"sys {made.sys.public}\n" in hubkeys._main(str(folder))


def test_a_folder_without_one_of_them_says_what_to_do(tmp_path):
    HubKeys.ensure(tmp_path)
    (tmp_path / "sys.seed").write_text("SUnothing")
    with pytest.raises(NoKeys, match="hubkeys"):
        HubKeys.read(tmp_path)

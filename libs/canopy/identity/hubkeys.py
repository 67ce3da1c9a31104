"""The nkeys by which spire_integration is known at the hub: nobody lets it in, so it has keys in place of the callout.

Four files of a folder, 0600, the same for every replica. Who writes the hub's configuration reads the public halves.
"""

from dataclasses import dataclass
from pathlib import Path

from canopy.identity.nkey import BadNkey, Nkey, new_account, new_user, nkey
from canopy.identity.private import private_folder, write_private

ISSUER = "callout.seed"
FILES = (ISSUER, "auth.seed", "cloud.seed", "sys.seed")


class NoKeys(Exception):
    """The folder has not all four; the text says what to do."""


@dataclass(frozen=True, slots=True)
class HubKeys:
    """`issuer` signs what the callout answers; the others are users of the hub's accounts AUTH, CLOUD and SYS."""

    issuer: Nkey
    auth: Nkey
    cloud: Nkey
    sys: Nkey

    @property
    def public(self) -> tuple[str, str, str, str]:
        """What the hub's configuration holds of them, in the order of `FILES`."""
        return self.issuer.public, self.auth.public, self.cloud.public, self.sys.public

    @classmethod
    def read(cls, folder: Path) -> "HubKeys":
        """Raises NoKeys."""
        try:
            return cls(*(nkey((folder / name).read_text(encoding="ascii")) for name in FILES))
        except (OSError, UnicodeError, BadNkey) as e:
            raise NoKeys(
                f"the keys of spire_integration, {folder}: {e}; `python -m canopy.identity.hubkeys {folder}` makes them"
            ) from None

    @classmethod
    def ensure(cls, folder: Path) -> "HubKeys":
        """Those of the folder; made where none is yet. Not for two processes at once."""
        private_folder(folder)
        for name in FILES:
            if not (folder / name).exists():
                made = new_account() if name == ISSUER else new_user()
                write_private(folder / name, made.seed.encode() + b"\n")
        return cls.read(folder)


def _main(folder: str) -> str:
    keys = HubKeys.ensure(Path(folder))
    return "".join(f"{name.removesuffix('.seed')} {key}\n" for name, key in zip(FILES, keys.public, strict=True))


if __name__ == "__main__":
    import sys

    sys.stdout.write(_main(sys.argv[1]))

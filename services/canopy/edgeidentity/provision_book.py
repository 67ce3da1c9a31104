"""What this node gave to its devices and apps, in one file: generations of identities, and hashes of passwords.

A device's SPIFFE ID ends in its generation once it was revoked: the leaf knows users by their SPIFFE IDs, so that what
was given before names nobody any more, for ever, also when the device goes and comes back.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from canopy.contracts.wire import Name
from canopy.edgeidentity.device_tokens import TokenHash
from canopy.identity import ids
from canopy.identity.ids import SpiffeId
from canopy.identity.private import write_private

log = logging.getLogger("canopy.edgeidentity")
MOST_DEVICES = 50_000
MOST_BYTES = 32 << 20
MOST_ENDS = 16
"""Certificates of one device at once."""


class BookFull(Exception):
    """More devices were given something than are remembered."""


class Given(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One device's. Times in ms since 1970; `serial` and `not_after` are of the last certificate, `ends` are those of
    certificates whose end has not been carried out yet."""

    generation: int = 0
    provisioned: int = 0
    not_after: int = 0
    serial: str = ""
    revoked: int = 0
    token: TokenHash | None = None
    ends: tuple[int, ...] = ()


class Book:
    """Reads its file once; every change is on the disk when it returns. Raises OSError, BookFull."""

    def __init__(self, td: str, node: str, path: Path) -> None:
        self._td, self._node, self._path, self._one = td, node, path, threading.Lock()
        self._held: dict[str, Given] = self._read()

    def of(self, name: Name) -> Given:
        return self._held.get(_key(name), NOTHING)

    def knows(self, name: Name) -> bool:
        return _key(name) in self._held

    def identity(self, name: Name) -> SpiffeId:
        """The SPIFFE ID that the device has now. Raises BadId."""
        first, generation = ids.device(self._td, self._node, *name), self.of(name).generation
        return SpiffeId(first.trust_domain, f"{first.path}/{generation}") if generation else first

    def provisioned(self, name: Name, now: int, not_after: int, serial: str) -> None:
        def change(given: Given) -> Given:
            ends = (*given.ends, not_after)[-MOST_ENDS:]
            return replace(given, provisioned=now, not_after=not_after, serial=serial, ends=ends)

        self._change(_key(name), change)

    def ended(self, now: int) -> list[Name]:
        """Devices of which a certificate has come to its end."""
        found = [key for key, one in self._held.items() if any(end <= now for end in one.ends)]
        return [(namespace, name) for namespace, _, name in (key.partition("/") for key in found)]

    def carried_out(self, name: Name, now: int) -> None:
        """The ends until now have been."""
        self._change(_key(name), lambda given: replace(given, ends=tuple(end for end in given.ends if end > now)))

    def token(self, name: Name, token: TokenHash) -> None:
        self._change(_key(name), lambda given: replace(given, token=token))

    def revoked(self, name: Name, now: int) -> None:
        """Its next identity is another one, and it has no password."""
        self._change(_key(name), lambda given: Given(generation=given.generation + 1, revoked=now))

    def _change(self, key: str, change: Callable[[Given], Given]) -> None:
        """One at a time: whoever asks does so in a thread, since the disk may take its time."""
        with self._one:
            if key not in self._held and len(self._held) >= MOST_DEVICES:
                raise BookFull(f"{MOST_DEVICES} devices were given credentials on this node; no more are remembered")
            held = {**self._held, key: change(self._held.get(key, NOTHING))}
            write_private(self._path, msgspec.json.encode(held))
            self._held = held

    def _read(self) -> dict[str, Given]:
        """A file that cannot be read is an error, not an empty book: it would let revoked devices in again."""
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(MOST_BYTES), type=dict[str, Given])
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as e:
            raise OSError(f"{self._path} cannot be read ({e}): bring it back from a back-up, or remove it") from e

    def app(self, name: str, now: int, not_after: int, serial: str) -> None:
        """A workload of this node was given a certificate."""
        self._change(APP + name, lambda _: Given(provisioned=now, not_after=not_after, serial=serial))

    def apps(self, now: int) -> list[tuple[str, SpiffeId]]:
        """Workloads whose certificate is still good, with their SPIFFE IDs."""
        found = [key[len(APP) :] for key, one in self._held.items() if key.startswith(APP) and one.not_after > now]
        return [(name, ids.app(self._td, self._node, name)) for name in sorted(found)]

    @property
    def all(self) -> Mapping[str, Given]:
        return self._held


NOTHING = Given()
APP = "app:"
"""Before the name of an app; a namespace holds no colon."""


def _key(name: Name) -> str:
    return "/".join(name)

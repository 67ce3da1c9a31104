"""Who may come in: the devices of the node's proven set that are not revoked, by the identities that they have now,
and apps. `unit` gives it the set, `admin_desk` revokes; whoever changes an identity lets it `look` again.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from msgspec.structs import replace

from canopy.contracts.wire import AsOf, Name, Put
from canopy.edgeidentity.core import Guest, Guests
from canopy.edgeidentity.memory import Memory
from canopy.identity.ids import BadId, SpiffeId

log = logging.getLogger("canopy.edgeidentity")
KIND = "Device"


class Roster:
    """`invited` hears the guests at each change, once a proven set was read. `identity` of a device may raise BadId;
    `apps` are (name, SPIFFE ID)."""

    def __init__(
        self,
        memory: Memory,
        identity: Callable[[Name], SpiffeId],
        invited: Callable[[Guests], None],
        apps: Callable[[], Iterable[tuple[str, SpiffeId]]] = tuple,
    ) -> None:
        self._memory, self._identity, self._invited, self._apps = memory, identity, invited, apps

    @property
    def as_of(self) -> AsOf | None:
        """Of the set last taken, also before a restart (RULES 9)."""
        return self._memory.held.as_of

    @property
    def listed(self) -> frozenset[Name]:
        """The devices of the set, revoked or not."""
        return frozenset(self._memory.held.devices or ())

    def take(self, puts: Collection[Put], as_of: AsOf) -> bool:
        """The proven set, whole. Of a device that is gone it is forgotten that it was revoked."""
        names = {put.entry.key[1:]: None for put in puts if put.entry.key[0] == KIND}
        revoked = tuple(name for name in self._memory.held.revoked if name in names)
        self._keep(devices=tuple(sorted(names)), as_of=as_of, revoked=revoked)
        return True

    def revoke(self, name: Name) -> None:
        """Keep a device out, until `restore`."""
        self._keep(revoked=tuple(sorted({*self._memory.held.revoked, name})))

    def restore(self, name: Name) -> None:
        """Let a device in again: it is given a new credential."""
        self._keep(revoked=tuple(one for one in self._memory.held.revoked if one != name))

    def _keep(self, **changes: Any) -> None:
        self._memory.write(replace(self._memory.held, **changes))
        self.look()

    def look(self) -> None:
        """Say who may come in, by the identities of now; nothing before a proven set was read once."""
        held = self._memory.held
        if held.devices is not None:
            revoked = frozenset(held.revoked)
            apps = (Guest("", name, str(id)) for name, id in self._apps())
            may = (name for name in held.devices if name not in revoked)
            self._invited(frozenset((*self._guests(may), *apps)))

    def _guests(self, names: Iterable[Name]) -> Iterable[Guest]:
        for name in names:
            try:
                yield Guest(*name, str(self._identity(name)))
            except BadId as e:
                log.warning("device %s/%s is not let in: %s", *name, e)

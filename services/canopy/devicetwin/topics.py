"""Where a message came from, and where answers go: the catalogue's addresses, worked out once a device."""

from typing import NamedTuple

from canopy.contracts import catalogue as c
from canopy.contracts.subject import AnySubject
from canopy.contracts.wire import Name

REMEMBERED = 20_000


class Said(NamedTuple):
    """A message to be published: of which subject, at which address."""

    subject: AnySubject
    address: str
    body: bytes


class Place(NamedTuple):
    """A topic on which devices speak, and the device (or the node, with an empty namespace)."""

    topic: AnySubject
    name: Name


class Topics:
    """Remembers what it worked out; bounded."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._places: dict[str, Place | None] = {}
        self._addresses: dict[tuple[str, Name], str] = {}

    def place(self, address: str) -> Place | None:
        """Which topic an address is of; None if it is none of ours, or another node's."""
        if address not in self._places:
            if len(self._places) >= REMEMBERED:
                self._places.clear()
            self._places[address] = self._found(address)
        return self._places[address]

    def address(self, topic: AnySubject, name: Name) -> str:
        """Where `topic` of a device is."""
        key = (topic.pattern, name)
        found = self._addresses.get(key)
        if found is None:
            if len(self._addresses) >= REMEMBERED:
                self._addresses.clear()
            found = self._addresses[key] = topic.at(namespace=name[0], name=name[1])
        return found

    def node_address(self, topic: AnySubject) -> str:
        return topic.at(node=self.node)

    def _found(self, address: str) -> Place | None:
        for topic in c.MQTT_IN:
            tokens = topic.tokens(address)
            if tokens is None:
                continue
            if "node" in tokens:
                return Place(topic, ("", tokens["node"])) if tokens["node"] == self.node else None
            return Place(topic, (tokens["namespace"], tokens["name"]))
        return None

"""All rows in memory, as they are on the disk: that is read at start only. Changed by `handlers` after commits."""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from canopy.contracts.wire import Name, StateEntry, Summary, encode
from canopy.devicetwin.device import Device
from canopy.sync.sets import HashedSet, digest


def seal(device: Device) -> tuple[Device, bytes]:
    """The device with the digest of its encoded state, and that."""
    content = encode(device.state)
    return replace(device, digest=digest(content), weight=len(content)), content


class Shelf:
    """The devices by name, the set that is reported (RULES 20), and what waits to be acknowledged, oldest first."""

    def __init__(self, devices: Iterable[Device] = (), now: float = 0.0) -> None:
        """`now`: from when on those that wait are said to have waited (monotonic seconds)."""
        self.devices = {d.key: d for d in devices}
        self.reported: HashedSet[StateEntry] = HashedSet(d.entry for d in self.devices.values() if d.revision)
        self._waiting = dict.fromkeys((d.key for d in self.devices.values() if not d.acknowledged), now)
        self._refused: dict[Name, StateEntry] = {}

    def put(self, device: Device, now: float = 0.0) -> None:
        """Take a row that was committed `now`."""
        key = device.key
        self.devices[key] = device
        if not device.revision:
            self.reported.drop(key)
        elif self.reported.get(key) != device.entry:
            self.reported.put(device.entry)
        if device.acknowledged:
            self._waiting.pop(key, None)
        else:
            self._waiting.setdefault(key, now)

    def drop(self, key: Name) -> None:
        """Forget a deleted row."""
        self.devices.pop(key, None)
        self._waiting.pop(key, None)
        self._refused.pop(key, None)
        self.reported.drop(key)

    def refuse(self, entry: StateEntry) -> None:
        """The cloud will not take this state: it is not sent again until it changes."""
        self._refused[entry.key] = entry

    def unreported(self) -> Iterator[Device]:
        """What is to be sent: not acknowledged, and not refused as it is."""
        for key in list(self._waiting):
            device = self.devices[key]
            if self._refused.get(key) != device.entry:
                yield device

    def oldest_seconds(self, now: float) -> float:
        """For how long the state that is to be sent first has waited; 0: none does."""
        first = next(self.unreported(), None)
        return now - self._waiting[first.key] if first is not None else 0.0

    @property
    def summary(self) -> Summary:
        return Summary(hash=self.reported.hash, pending=sum(1 for _ in self.unreported()))

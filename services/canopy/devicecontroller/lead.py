"""What only the leader does: push, write, and hear of what makes either necessary. Begun anew with each leadership."""

import asyncio

from canopy.bus import Bus
from canopy.bus.streams import Follow, LastValues, Value
from canopy.contracts import catalogue
from canopy.contracts.wire import Name
from canopy.devicecontroller import conditions
from canopy.devicecontroller.core import DeviceKey
from canopy.devicecontroller.counts import Counts
from canopy.devicecontroller.handlers import ConditionWriter, Pusher, StatusWriter, key_of
from canopy.devicecontroller.objects import Seen
from canopy.devicecontroller.placement import Touched
from canopy.devicecontroller.replica import Replica
from canopy.devicecontroller.settings import Settings
from canopy.runtime.clock import Clock
from canopy.runtime.worker import Worked, Worker
from canopy.runtime.workqueue import Budget, Queue

MILLISECONDS = 1000


class Lead:
    """A `replica.Duty`. One budget holds for both kinds of writes."""

    def __init__(
        self,
        bus: Bus,
        twins: LastValues,
        replica: Replica,
        statuses: StatusWriter,
        conditions: ConditionWriter,
        settings: Settings,
        clock: Clock,
        counts: Counts,
    ) -> None:
        self._replica, self._twins, self._counts, self._clock = replica, twins, counts, clock
        self._pusher = Pusher(bus, replica, clock, settings.gather_ms / MILLISECONDS, counts, bus.telemetry)
        self._status_writer, self._condition_writer = statuses, conditions
        budget = Budget(settings.writes_per_second, settings.writes_at_first)
        interval = settings.device_interval_seconds
        self._statuses: Worker[DeviceKey] = Worker(
            Queue(interval, budget),
            statuses.look,
            clock,
            settings.looks_at_once,
            self._done,
            counts.budget_waits.add,
            bus.letters,
        )
        of_conditions: Queue[Name] = Queue(interval, budget)
        self._conditions: Worker[Name] = Worker(of_conditions, conditions.look, clock, 4, letters=bus.letters)
        self._warnings: asyncio.Queue[Seen] = asyncio.Queue(maxsize=1000)

    async def run(self) -> None:
        """Until cancelled. A new leader looks at every device once (RULES 27): at its record when the stream TWINS is
        read from its start, at its condition here."""
        self._replica.duty = self
        try:
            for name in self._replica.placement.devices:
                self._conditions.mark(name)
            async with asyncio.TaskGroup() as tasks:
                follow = Follow(self._twins, catalogue.TWINS.wild(), on_reset=lambda: None, on_value=self._reported)
                for work in (self._pusher, self._statuses, self._conditions, follow):
                    tasks.create_task(work.run())
                tasks.create_task(self._warn())
        finally:
            if self._replica.duty is self:
                self._replica.duty = None

    @property
    def backlog(self) -> int:
        """How many devices wait to be looked at."""
        return len(self._statuses.queue)

    @property
    def oldest_seconds(self) -> float:
        """For how long the DeviceStatus that waits for longest has waited."""
        return self._statuses.queue.oldest_seconds(self._clock.monotonic())

    def _reported(self, value: Value) -> None:
        if (key := key_of(value.subject)) is not None:
            self._status_writer.note(key, value.data)
            self._statuses.mark(key, hurry=True)

    def _done(self, worked: Worked, seconds: float) -> None:
        if worked.wrote:
            self._counts.lag.set(seconds)

    # --- what the replica says ----------------------------------------------------------------------------------------
    def touched(self, touched: set[Touched]) -> None:
        self._pusher.add(touched)

    def device(self, old: Seen | None, new: Seen | None) -> None:
        """Both places are looked at: at the former one a record may be left."""
        for seen in (old, new):
            if seen is not None and seen.node:
                self._statuses.mark((seen.node, *seen.id), hurry=True)
        if new is not None:
            self._conditions.mark(new.id, hurry=True)

    def model(self, old: Seen | None, new: Seen | None) -> None:
        """Its coming or going, or its size, changes what its devices' conditions say."""
        seen = new or old
        if seen is not None and (old is None or new is None or (old.put is None) != (new.put is None)):
            for device in self._replica.placement.devices_of(seen.id):
                self._conditions.mark(device.id)
        if new is not None and new.put is None and not self._warnings.full():
            self._warnings.put_nowait(new)

    def status(self, name: Name) -> None:
        device = self._replica.placement.devices.get(name)
        if device is not None and device.node:
            self._statuses.mark((device.node, *name), hurry=True)

    def node(self, name: str) -> None:
        for entry in self._replica.placement.set_of(name):
            if (entry.namespace, entry.name) in self._replica.placement.devices:
                self._conditions.mark((entry.namespace, entry.name))

    async def _warn(self) -> None:
        while True:
            model = await self._warnings.get()
            if (verdict := conditions.too_big(model)) is not None:
                await self._condition_writer.warn(model, verdict)

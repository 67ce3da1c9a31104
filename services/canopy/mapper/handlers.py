"""The Mapper's shell: the node's proven set in, reports out, deltas in. What to do is the runner's."""

import logging
from collections.abc import Collection, Mapping
from typing import TypeVar

import msgspec

from canopy.bus import AskFailed, Bus, Place
from canopy.contracts import catalogue as c
from canopy.contracts.devices import Device, DeviceModel
from canopy.contracts.wire import AsOf, Delta, MapperReport, MapperResult, Put
from canopy.mapper.runner import NotAnswered, Runner
from canopy.mapper.views import views
from canopy.runtime.letters import DeadLetters
from canopy.runtime.telemetry import current_traceparent

log = logging.getLogger("canopy.mapper")
REPORT_SECONDS = 3.0
T = TypeVar("T")


class OverTheBus:
    """Where the runner's reports go: DeviceTwin, which answers after its commit."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def report(self, report: MapperReport) -> MapperResult:
        """One attempt. Raises NotAnswered."""
        try:
            return await self._bus.ask(c.TWIN_REPORT, report, timeout=REPORT_SECONDS)
        except AskFailed as e:
            raise NotAnswered(str(e)) from e


class Handlers:
    """Hands what is heard to the runner."""

    def __init__(self, runner: Runner, letters: DeadLetters | None = None) -> None:
        self._letters = letters if letters is not None else DeadLetters("mapper")
        self._runner = runner
        self._said: Mapping[tuple[str, str], str] = {}

    def take(self, puts: Collection[Put], as_of: AsOf) -> bool:
        """The set of this node, proven and whole."""
        devices, models = _decoded(puts, Device), _decoded(puts, DeviceModel)
        found = views(devices, models, self._runner.driver.protocol, self._bug)
        for key, problem in found.problems.items():
            if self._said.get(key) != problem:
                log.warning(problem)
        self._said = dict(found.problems)
        self._runner.set_devices(found.views, found.broken)
        return True

    def _bug(self, key: tuple[str, str], error: Exception) -> None:
        self._letters.failed(f"the configuration of {key[0]}/{key[1]}", error, by_place=True)

    async def delta(self, message: Delta, place: Place[Delta]) -> None:
        """DeviceTwin says what a device should be set to."""
        self._runner.desire(message.namespace, message.name, message.desired, current_traceparent())


def _decoded(puts: Collection[Put], type_: type[T]) -> list[T]:
    """The objects of one kind; what cannot be read is said by DeviceTwin, which reads the same set."""
    found = []
    for put in puts:
        if put.entry.kind == type_.__name__:
            try:
                found.append(msgspec.json.decode(put.body, type=type_))
            except msgspec.DecodeError as e:
                log.debug("%s %s/%s: %s", *put.entry.key, e)
    return found

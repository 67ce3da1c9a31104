"""A whole driver: a lamp that lives in a text file. Flip it by hand with an editor.

Run it: `canopy mapper run examples/lamp.py`; its Device and DeviceModel are in `lamp.yaml`.
"""

from collections.abc import Sequence
from pathlib import Path

from canopy.mapper.sdk import DeviceUnreachable, DeviceView, Driver, PropertyView


class Lamp(Driver):
    protocol = "lamp"

    async def read(self, device: DeviceView, properties: Sequence[PropertyView]) -> dict[str, str]:
        return self._lines(device)

    async def write(self, device: DeviceView, property: PropertyView, value: str) -> None:
        lines = self._lines(device) | {property.name: value}
        self._file(device).write_text("".join(f"{name} = {said}\n" for name, said in lines.items()))

    def _lines(self, device: DeviceView) -> dict[str, str]:
        try:
            lines = self._file(device).read_text().splitlines()
        except OSError as e:
            raise DeviceUnreachable(f"no lamp here: {e}") from None
        return {name.strip(): said.strip() for name, _, said in (line.partition("=") for line in lines)}

    def _file(self, device: DeviceView) -> Path:
        return Path(device.config.text("file"))

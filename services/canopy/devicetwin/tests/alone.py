"""DeviceTwin in a process of its own, to be killed: `alone.py URL IDENTITY FOLDER`; says when it has started."""

import asyncio
import sys
from pathlib import Path

from canopy.bus import Connection
from canopy.bus.environment import Environment
from canopy.bus.trust import LEAF
from canopy.devicetwin.settings import Settings
from canopy.devicetwin.unit import DeviceTwin
from canopy.identity import ids
from canopy.identity.sources import FileSource
from canopy.runtime.health import Health
from canopy.runtime.settings import Shared
from canopy.runtime.telemetry import Telemetry


async def main(url: str, identity: str, folder: str) -> None:
    shared = Shared(node_name="node", nats_url=url, data_dir=Path(folder), identity_dir=identity)
    leaf = frozenset({ids.local(shared.trust_domain, shared.node_name, LEAF)})
    connection = await Connection.open(url, name="devicetwin", identity=FileSource(Path(identity)), expected=leaf)
    environment = Environment(shared, connection, Telemetry("devicetwin"), Health("devicetwin"))
    await DeviceTwin(environment, Settings()).run(lambda: print("started", flush=True))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

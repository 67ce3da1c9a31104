"""`python -m canopy.kubeserve --dir D --port P`: one JSON line when ready, then serves until SIGTERM or SIGINT."""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from canopy.kubeserve.server import KubeServe
from canopy.store.errors import StoreError


def main() -> int:
    """The exit code: 0 after a signal, 1 when the server could not start or ended by itself."""
    options = _options()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_run(options))
    except (OSError, RuntimeError, ValueError, StoreError) as error:
        sys.stderr.write(f"kubeserve: {error}\n")
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m canopy.kubeserve", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder for objects, CA, token and kubeconfig")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument("--no-crds", action="store_true", help="do not install the device API's CRDs")
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with KubeServe(options.dir, options.port, host=options.host, install_crds=not options.no_crds) as server:
        ready = {"ready": True, "url": server.url, "kubeconfig": str(server.kubeconfig.absolute())}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await _either(stop.wait(), server.failed())


async def _either(*works: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.create_task(w) for w in works]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    for task in done:
        task.result()


if __name__ == "__main__":
    sys.exit(main())

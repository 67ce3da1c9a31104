"""The Workload API of a node: `python -m canopy.identity.workload_server`. A process of its own, only where a site
wants it, so that gRPC is in no unit.

An app asks on the socket without any secret; who it is, the kernel says, and what that is called stands in a file of
rules (`workload_rules`). Certificates come from edgeidentity. Served: FetchX509SVID and FetchX509Bundles; no JWT.
"""

import asyncio
import logging
import signal
import sys
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import ClassVar

from grpc import aio
from pydantic import Field

from canopy.identity.workload_apps import Apps, Desk
from canopy.identity.workload_gate import Gate
from canopy.identity.workload_rules import MOST_FILE_BYTES, BadRules, Rule, read
from canopy.identity.workload_service import Service
from canopy.runtime import logs
from canopy.runtime.settings import SettingsError, Shared, UnitSettings, load

log = logging.getLogger("canopy.identity.workload_server")
STOP_SECONDS = 1.0
MOST_CALLS = 256
_OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 1024),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.so_reuseport", 0),
)


class Settings(UnitSettings):
    """Where apps ask, who they are, and whence their certificates come."""

    unit: ClassVar[str] = "workload_api"

    socket: Path = Field(Path(), description="Unix socket for apps; empty: workload.sock in CANOPY_DATA_DIR.")
    rules: Path = Field(Path(), description="File of rules (TOML); empty: workloads.toml in CANOPY_DATA_DIR.")
    admin_socket: Path = Field(
        Path(), description="edgeidentity's admin socket; empty: identity/admin.sock in CANOPY_DATA_DIR."
    )


class RulesFile:
    """The rules as the file has them now. A file that is wrong is said, and those of before hold."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen, self._rules = path, (0, 0), tuple[Rule, ...]()

    def now(self) -> tuple[Rule, ...]:
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_ino)
            if seen != self._seen:
                self._seen = seen
                with self._path.open("rb") as file:
                    self._rules = read(file.read(MOST_FILE_BYTES).decode())
                log.info("%d rules in %s", len(self._rules), self._path)
        except FileNotFoundError:
            self._rules, self._seen = (), (0, 0)
        except (OSError, BadRules, UnicodeDecodeError) as e:
            log.error("%s: %s; the rules of before hold", self._path, e)
        return self._rules


async def serve(stack: AsyncExitStack, socket: Path, rules: Path, admin: Path) -> None:
    """Until the stack is closed. Raises OSError."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="canopy-workload-")))
    apps = Apps(admin)
    stack.push_async_callback(apps.close)
    gate = Gate(socket, folder / "inside.sock")
    service = Service(RulesFile(rules).now, apps, gate.who, Desk(admin))
    server = aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MOST_CALLS)
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"unix:{folder / 'inside.sock'}")  # the folder is ours alone
    await server.start()
    stack.push_async_callback(server.stop, STOP_SECONDS)
    await stack.enter_async_context(gate)
    stack.push_async_callback(service.close)
    log.info("the Workload API listens", extra={"socket": str(socket), "rules": str(rules)})


async def run() -> None:
    """Until SIGTERM or SIGINT. Raises SettingsError, OSError."""
    shared, settings = load(Shared), load(Settings)
    logs.set_up(shared.log_level, shared.log_format)
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for signaled in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signaled, told.set)
    async with AsyncExitStack() as stack:
        await serve(
            stack,
            _given(settings.socket, shared.data_dir / "workload.sock"),
            _given(settings.rules, shared.data_dir / "workloads.toml"),
            _given(settings.admin_socket, shared.data_dir / "identity" / "admin.sock"),
        )
        await told.wait()


def _given(path: Path, otherwise: Path) -> Path:
    return (otherwise if path == Path() else path).absolute()


def main() -> int:
    """The exit code."""
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(run())
    except (SettingsError, OSError) as e:
        sys.stderr.write(f"canopy: {e}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

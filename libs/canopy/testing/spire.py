"""The real SPIRE server and agent, as tests/spire/build.sh built them: on free ports, each in a folder of its own."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from canopy.identity.authority import AuthorityAway
from canopy.identity.ids import SpiffeId
from canopy.identity.private import write_private
from canopy.identity.spire import Spire, over_socket
from canopy.testing.child import HOST, Child, free_port, tail

BUILD = Path(__file__).parents[3] / "tests" / "spire" / "build.sh"
MISSING = "the real SPIRE is not built: bash tests/spire/build.sh (10 minutes, once)"
READY_SECONDS = 30.0
LOOK_SECONDS = 0.05
SETTLE_SECONDS = "1s"
"""How often the server reads its entries and the agent asks for them; theirs is 5 s."""


class NoSpire(RuntimeError):
    """SPIRE is not built, or did not come up; the text says what to do, or what its log says."""


def programs() -> Path | None:
    """The folder of spire-server and spire-agent, if they are built."""
    if not BUILD.is_file():
        return None
    asked = subprocess.run(["bash", str(BUILD), "--have"], capture_output=True, text=True, check=False)
    return Path(asked.stdout.strip()) if asked.returncode == 0 else None


class SpireProcess(Child):
    """A SPIRE program with its configuration; it may be stopped, killed, and started again with the same data."""

    def __init__(self, name: str, directory: Path, config: str, socket: Path, arguments: Mapping[str, str]) -> None:
        found = programs()
        if found is None:
            raise NoSpire(MISSING)
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.socket = directory, socket
        (directory / f"{name}.conf").write_text(config)
        extra = [text for flag, value in arguments.items() for text in (f"-{flag}", value)]
        command = [str(found / name), "run", "-config", str(directory / f"{name}.conf"), *extra]
        super().__init__(command, os.environ, directory / f"{name}.log")

    async def ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._answers():
                    if not self.running:
                        raise NoSpire(f"{self.log.stem} has ended:\n{tail(self.log)}")
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            await self.kill()
            raise NoSpire(f"{self.log.stem} is not ready after {READY_SECONDS:g} s:\n{tail(self.log)}") from None

    async def _answers(self) -> bool:
        return self.socket.is_socket()


class SpireServer(SpireProcess):
    """A server; `authority()` is a client of its socket, `address` its port for agents and for admins with an SVID."""

    def __init__(self, directory: Path, config: str, socket: Path, port: int, trust_domain: str) -> None:
        super().__init__("spire-server", directory, config, socket, {})
        self.address, self.trust_domain = f"{HOST}:{port}", trust_domain

    def authority(self) -> Spire:
        """Close it at the end."""
        return over_socket(self.socket, self.trust_domain)

    async def let_nest(self, id: SpiffeId, agent: SpiffeId, *selectors: str) -> None:
        """An entry for a server nested below this one, beside one of its agents."""
        chosen = [text for selector in selectors for text in ("-selector", selector)]
        options = ("-socketPath", str(self.socket), "-parentID", str(agent), "-spiffeID", str(id), "-downstream")
        command = (self._command[0], "entry", "create", *options, *chosen)
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoSpire(f"{' '.join(command)}: {done.stderr or done.stdout}")

    async def _answers(self) -> bool:
        authority = self.authority()
        try:
            return bool((await authority.bundle()).roots_pem)
        except AuthorityAway:
            return False
        finally:
            await authority.close()


class SpireAgent(SpireProcess):
    """An agent; `socket` is the Workload API's, `id` what the server calls it."""

    def __init__(self, directory: Path, config: str, socket: Path, token: str, trust_domain: str) -> None:
        super().__init__("spire-agent", directory, config, socket, {"joinToken": token})
        self.id = SpiffeId(trust_domain, f"/spire/agent/join_token/{token}")


@asynccontextmanager
async def spire_server(
    directory: Path,
    trust_domain: str = "canopy.test",
    *,
    ca_ttl_seconds: int = 3600,
    svid_ttl_seconds: int = 600,
    admins: tuple[SpiffeId, ...] = (),
    port: int = 0,
    upstream: "tuple[SpireServer, SpireAgent] | None" = None,
) -> AsyncIterator[SpireServer]:
    """A server with SQLite and agents by join token, killed at the end. With an `upstream` it is nested below that
    server: its certificate is what that server's agent here gives a downstream server."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="canopy-spire-") as short:  # a socket's path is short
        socket = Path(short) / "server.sock"
        listed = ", ".join(f'"{id}"' for id in admins)
        config = f"""server {{
  bind_address = "{HOST}"
  bind_port = "{port}"
  socket_path = "{socket}"
  trust_domain = "{trust_domain}"
  data_dir = "{directory}"
  log_level = "WARN"
  ca_ttl = "{ca_ttl_seconds}s"
  default_x509_svid_ttl = "{svid_ttl_seconds}s"
  admin_ids = [{listed}]
  experimental {{
    cache_reload_interval = "{SETTLE_SECONDS}"
  }}
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "sqlite3"
      connection_string = "{directory}/datastore.sqlite3"
    }}
  }}
  KeyManager "disk" {{
    plugin_data {{
      keys_path = "{directory}/keys.json"
    }}
  }}
  NodeAttestor "join_token" {{
    plugin_data {{}}
  }}
{_nested(*upstream) if upstream else ""}}}
"""
        server = SpireServer(directory, config, socket, port, trust_domain)
        try:
            await server.start()
            yield server
        finally:
            await server.kill()


def _nested(server: SpireServer, agent: SpireAgent) -> str:
    host, _, port = server.address.rpartition(":")
    return f"""  UpstreamAuthority "spire" {{
    plugin_data {{
      server_address = "{host}"
      server_port = "{port}"
      workload_api_socket = "{agent.socket}"
    }}
  }}
"""


@asynccontextmanager
async def spire_agent(directory: Path, server: SpireServer, agent: SpiffeId) -> AsyncIterator[SpireAgent]:
    """An agent of `server`, for entries whose parent is `agent`; killed at the end."""
    authority = server.authority()
    try:
        token = await authority.join_token(agent)
        write_private(directory / "roots.pem", (await authority.bundle()).pem)
    finally:
        await authority.close()
    host, _, port = server.address.rpartition(":")
    with tempfile.TemporaryDirectory(prefix="canopy-spire-") as short:
        socket = Path(short) / "agent.sock"
        config = f"""agent {{
  data_dir = "{directory}"
  socket_path = "{socket}"
  server_address = "{host}"
  server_port = "{port}"
  trust_domain = "{server.trust_domain}"
  trust_bundle_path = "{directory}/roots.pem"
  log_level = "WARN"
  experimental {{
    sync_interval = "{SETTLE_SECONDS}"
  }}
}}
plugins {{
  NodeAttestor "join_token" {{
    plugin_data {{}}
  }}
  KeyManager "disk" {{
    plugin_data {{
      directory = "{directory}"
    }}
  }}
  WorkloadAttestor "unix" {{
    plugin_data {{}}
  }}
}}
"""
        running = SpireAgent(directory, config, socket, token, server.trust_domain)
        try:
            await running.start()
            yield running
        finally:
            await running.kill()

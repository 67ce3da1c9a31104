"""The whole server: directory, store, background tasks, TLS, uvicorn. Used as `async with KubeServe(directory)`."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvicorn

from canopy.contracts.crds import crds
from canopy.kubeserve import certificates, kinds
from canopy.kubeserve.app import App
from canopy.kubeserve.garbage import Collector
from canopy.kubeserve.status import ApiError, Json
from canopy.kubeserve.store import Store
from canopy.kubeserve.verbs import ALWAYS, Clock, Target, Verbs, Write
from canopy.store.migrations import migrations_of
from canopy.store.sqlite import Database

HISTORY_LIMIT_EVENTS = 10_000
EVENT_TTL_SECONDS = 3_600.0
STOP_LIMIT_SECONDS = 5
START_LIMIT_SECONDS = 30.0


class KubeServe:
    """One API server. `directory` holds everything it keeps: objects.db, CA, token, kubeconfig (all 0600).

    Inside the block `url`, `kubeconfig`, `ca_file` and `token` are set. `token` is made up and kept when not given,
    `port` 0 takes a free one. Raises OSError when the port is taken, and canopy.store's errors when the file is.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        token: str = "",
        *,
        host: str = "127.0.0.1",
        install_crds: bool = True,
        history_limit_events: int = HISTORY_LIMIT_EVENTS,
        event_ttl_seconds: float = EVENT_TTL_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        self._directory, self._host, self._port = directory, host, port
        self._install_crds = install_crds
        self._history_limit_events, self._event_ttl_seconds = history_limit_events, event_ttl_seconds
        self._clock = clock or Clock()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self.token = token
        self.url = ""
        self.kubeconfig = directory / "kubeconfig"
        self.ca_file = directory / "ca.crt"

    async def __aenter__(self) -> "KubeServe":
        async with self._stack as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def failed(self) -> None:
        """Wait until something of the server ends by itself; raises what ended it."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError("kubeserve ended by itself")

    async def _start(self, stack: AsyncExitStack) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.token = self.token or _kept_token(self._directory / "token")
        migrations = migrations_of("canopy.kubeserve")
        database = await stack.enter_async_context(Database.open(self._directory / "objects.db", migrations))
        store = await Store.load(database, self._history_limit_events)
        verbs = Verbs(store, self._clock)
        collector = Collector(store, verbs, self._clock, self._event_ttl_seconds)
        store.on_commit = collector.hear
        await stack.enter_async_context(self._running(store.run()))
        await self._furnish(verbs)
        await stack.enter_async_context(self._running(collector.run()))
        app = App(store, verbs, self._clock, self.token)
        await self._serve(app, store, stack)
        app.ready = True

    async def _furnish(self, verbs: Verbs) -> None:
        """Namespaces, and our CRDs; what is there already stays as it is."""
        for name in ALWAYS:
            body = {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}
            await _ensure(verbs, Target(kinds.NAMESPACE), body)
        for crd in crds() if self._install_crds else ():
            await _ensure(verbs, Target(kinds.CRD), crd)

    async def _serve(self, app: App, store: Store, stack: AsyncExitStack) -> None:
        listener = stack.enter_context(_listen(self._host, self._port))
        port = listener.getsockname()[1]
        hosts = tuple(dict.fromkeys((self._host, "127.0.0.1", "::1", "localhost")))
        context, self.ca_file = certificates.tls(self._directory, hosts)
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=STOP_LIMIT_SECONDS,
        )
        config.load()
        config.ssl = context
        server = _Server(config)
        self._tasks.append(serving := asyncio.create_task(server.serve([listener]), name="kubeserve http"))
        stack.push_async_callback(_stop, server, store, serving)
        await _started(server, serving)
        self.url = f"https://{f'[{self._host}]' if ':' in self._host else self._host}:{port}"
        certificates.write_kubeconfig(self.kubeconfig, self.url, self.ca_file, self.token)

    @contextlib.asynccontextmanager
    async def _running(self, work: Coroutine[Any, Any, None]) -> Any:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class _Server(uvicorn.Server):
    """Leaves the process's signals to whoever runs us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    async with asyncio.timeout(START_LIMIT_SECONDS):
        while not server.started:  # uvicorn gives nothing to wait for
            if serving.done():
                serving.result()
                raise RuntimeError("uvicorn ended at once")
            await asyncio.sleep(0.005)


async def _stop(server: uvicorn.Server, store: Store, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    store.history.end()  # watches would keep their connections open
    await asyncio.gather(serving, return_exceptions=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1_024)


def _kept_token(path: Path) -> str:
    if not path.exists():
        certificates.write_private(path, secrets.token_urlsafe(32).encode())
    return path.read_text().strip()


async def _ensure(verbs: Verbs, target: Target, body: Json) -> None:
    try:
        await verbs.create(target, body, Write())
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise

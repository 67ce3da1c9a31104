"""The server as a whole, in this process: what it keeps, what it collects, how it ends. The API's own contract is
tested by `canopy/kube/tests/test_contract.py`."""

import asyncio
import json
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from canopy.kube.api import Kube
from canopy.kube.client import connect
from canopy.kube.errors import Forbidden, Gone, KubeError, NotFound, Refused, Unavailable
from canopy.kube.informer import Informer, InformerSettings
from canopy.kube.resource import DEVICE_STATUSES, DEVICES, EVENTS, NAMESPACES, Resource
from canopy.kubeserve.garbage import over
from canopy.kubeserve.server import STOP_LIMIT_SECONDS, KubeServe
from canopy.kubeserve.state import State
from canopy.kubeserve.stored import encode
from canopy.store.errors import DatabaseInUse
from canopy.testing.child import free_port
from canopy.testing.wait import until

pytestmark = pytest.mark.server
DEADLINE_SECONDS = 10.0


def device(name: str, **spec: Any) -> bytes:
    meta = {"name": name}
    return json.dumps({"metadata": meta, "spec": spec}).encode()


@asynccontextmanager
async def serving(directory: Path, **options: Any) -> AsyncIterator[tuple[KubeServe, Kube]]:
    async with KubeServe(directory, **options) as server:
        kube = await connect(server.kubeconfig)
        try:
            yield server, kube
        finally:
            await kube.close()


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as (first, kube):
        made = await kube.create(DEVICES, "default", device("d1", nodeName="n"))
        cluster = await kube.get(NAMESPACES, "", "kube-system")
        revision = (await kube.list(DEVICES)).revision
    async with serving(tmp_path) as (second, kube):
        assert await kube.get(DEVICES, "default", "d1") == made
        assert await kube.get(NAMESPACES, "", "kube-system") == cluster
        assert (await kube.list(DEVICES)).revision == revision
        assert second.token == first.token


def started(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "canopy.kubeserve", "--dir", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and json.loads(process.stdout.readline())["ready"]
    return process


async def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    process = started(tmp_path)
    kube = await connect(tmp_path / "kubeconfig")
    answered: list[bytes] = []

    async def write(i: int) -> None:
        answered.append(await kube.create(DEVICES, "default", device(f"d{i}")))
        if len(answered) == 50:
            process.kill()

    await asyncio.gather(*(write(i) for i in range(100)), return_exceptions=True)
    process.wait()
    await kube.close()
    async with serving(tmp_path) as (_, kube):
        assert 50 <= len(answered) <= 100
        assert set(answered) <= set((await kube.list(DEVICES)).items)


def test_the_command_says_why_it_cannot_start(tmp_path: Path) -> None:
    process = started(tmp_path)
    command = [sys.executable, "-m", "canopy.kubeserve", "--dir", str(tmp_path)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1 and "in use" in second.stderr and "Traceback" not in second.stderr
    process.terminate()
    assert process.wait(timeout=10) == 0


async def test_secrets_on_the_disk_are_their_owners_only(tmp_path: Path) -> None:
    async with serving(tmp_path / "new"):
        files = [p for p in (tmp_path / "new").iterdir() if not p.name.startswith("objects.db-")]
        assert {p.name for p in files} >= {"kubeconfig", "token", "ca.key", "server.key", "objects.db"}
        assert {stat.S_IMODE(p.stat().st_mode) for p in files} == {0o600}


async def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path):
        with pytest.raises(DatabaseInUse):
            async with serving(tmp_path):
                pass


async def test_without_crds_no_devices_are_served(tmp_path: Path) -> None:
    async with serving(tmp_path, install_crds=False) as (_, kube):
        with pytest.raises(NotFound, match="kubeserve has no"):
            await kube.list(DEVICES)


async def test_a_watch_older_than_the_history_is_gone_and_an_informer_lists_again(tmp_path: Path) -> None:
    async with serving(tmp_path, history_limit_events=5) as (_, kube):
        informer = Informer(kube, DEVICES, json.loads, settings=InformerSettings(1, 0.01, 0.1))
        task = asyncio.create_task(informer.run())
        await informer.wait_synced()
        task.cancel()
        for i in range(10):
            await kube.create(DEVICES, "default", device(f"d{i}"))
        with pytest.raises(Gone):
            async with kube.watch(DEVICES, revision=informer.revision, timeout_seconds=1):
                pass
        task = asyncio.create_task(informer.run())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await informer.wait_for(lambda: len(informer.objects) == 10)
        task.cancel()


async def test_a_restored_older_database_makes_informers_list_again(tmp_path: Path) -> None:
    async with serving(tmp_path / "old") as (old, kube):
        await kube.create(DEVICES, "default", device("old"))
        token = old.token
    port = free_port()
    async with serving(tmp_path / "new", port=port, token=token) as (_, kube):
        for name in ("n1", "n2", "n3"):
            await kube.create(DEVICES, "default", device(name))
    (tmp_path / "old" / "token").write_text(token)
    for name in ("ca.key", "ca.crt"):
        (tmp_path / "old" / name).write_bytes((tmp_path / "new" / name).read_bytes())
    async with KubeServe(tmp_path / "new", port, token):
        kube = await connect(tmp_path / "new" / "kubeconfig")
        informer = Informer(kube, DEVICES, json.loads, settings=InformerSettings(20, 0.02, 0.2))
        task = asyncio.create_task(informer.run())
        await informer.wait_synced()
        assert len(informer.objects) == 3
    async with KubeServe(tmp_path / "old", port, token):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await informer.wait_for(lambda: set(informer.objects) == {("default", "old")})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await kube.close()


async def test_an_owned_object_whose_owner_never_was_goes(tmp_path: Path) -> None:
    owner = {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "00000000-0000-0000-0000-000000000000"}
    body = {"metadata": {"name": "d1", "ownerReferences": [owner]}, "status": {}}
    async with serving(tmp_path) as (_, kube):
        await kube.create(DEVICE_STATUSES, "default", json.dumps(body).encode())

        async def is_gone() -> bool:
            return not (await kube.list(DEVICE_STATUSES)).items

        await until(is_gone)


async def test_a_namespace_goes_with_its_content_and_waits_for_finalizers(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, kube):
        await kube.create(NAMESPACES, "", b'{"metadata":{"name":"n"}}')
        await kube.create(DEVICES, "n", device("plain"))
        await kube.create(DEVICES, "n", b'{"metadata":{"name":"held","finalizers":["x.dev/y"]}}')
        await kube.delete(NAMESPACES, "", "n")
        assert json.loads(await kube.get(NAMESPACES, "", "n"))["status"]["phase"] == "Terminating"
        with pytest.raises(NotFound):
            await kube.get(DEVICES, "n", "plain")
        with pytest.raises(Forbidden):
            await kube.create(DEVICES, "n", device("late"))
        await kube.patch(DEVICES, "n", "held", b'{"metadata":{"finalizers":null}}')

        async def is_gone() -> bool:
            return len((await kube.list(NAMESPACES)).items) == 4

        await until(is_gone)
        with pytest.raises(Forbidden):
            await kube.delete(NAMESPACES, "", "default")


def test_old_events_are_over_and_new_ones_are_not() -> None:
    def event(name: str, at: str) -> Any:
        meta = {"name": name, "namespace": "d", "uid": name, "resourceVersion": "1", "creationTimestamp": at}
        return encode(("", "events"), {"metadata": meta})

    state = State(1, [event("old", "2026-01-01T00:00:00Z"), event("new", "2026-01-01T01:00:00Z")])
    found = over(state, datetime(2026, 1, 1, 1, 30, tzinfo=UTC), 3600)
    assert [e.key[1] for e in found] == ["old"]


async def test_a_commit_that_fails_is_told_and_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as (_, kube):

        def full(*_: object) -> None:
            raise OSError("disk full")

        with monkeypatch.context() as broken:
            broken.setattr("canopy.kubeserve.rows.write", full)
            with pytest.raises(Unavailable, match="disk full"):
                await kube.create(DEVICES, "default", device("d1"))
        before = (await kube.list(DEVICES)).revision
        made = json.loads(await kube.create(DEVICES, "default", device("d1")))
        assert int(made["metadata"]["resourceVersion"]) == before + 1


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/apis/apps/v1/deployments", "kubeserve has no"),
        ("/api/v1/namespaces/default/pods/x/log", "kubeserve has no"),
        ("/apis/devices.kubeedge.io/v1beta1/devices?continue=x", "continue"),
        ("/apis/devices.kubeedge.io/v1beta1/devices?watch=1&resourceVersion=x", "resourceVersion"),
        ("/apis/devices.kubeedge.io/v1beta1/devices?watch=1&sendInitialEvents=true", "sendInitialEvents"),
        ("/api/v1", ""),
        ("/openapi/v3", ""),
        ("/nothing", "kubeserve has no"),
        ("/", "kubeserve has no"),
        ("/api/v1/namespaces//pods", "kubeserve has no"),
        ("/api/v1/namespaces/default/nodes", "kubeserve has no"),
    ],
)
async def test_what_is_not_served_is_said_in_words(tmp_path: Path, path: str, word: str) -> None:
    async with serving(tmp_path) as (_, kube):
        try:
            await kube._call("GET", path.partition("?")[0], _query(path))  # type: ignore[attr-defined]
        except KubeError as error:
            assert word and word in str(error), error
        else:
            assert not word


def _query(path: str) -> dict[str, str]:
    return dict(p.split("=") for p in path.partition("?")[2].split("&") if p)


async def test_too_large_a_body_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, kube):
        with pytest.raises(Refused, match="limit"):
            await kube.create(DEVICES, "default", device("d1", nodeName="x" * (2 << 20)))
        await kube.create(EVENTS, "default", b'{"metadata":{"name":"e"}}')


async def test_the_server_stops_soon_although_someone_watches(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, kube):  # noqa: SIM117
        async with kube.watch(DEVICES, revision=(await kube.list(DEVICES)).revision, timeout_seconds=600) as events:
            async with asyncio.timeout(STOP_LIMIT_SECONDS - 1):
                await server.__aexit__()
                assert [e async for e in events if e.type != "BOOKMARK"] == []


async def test_a_failing_request_leaves_the_others_alone(tmp_path: Path) -> None:
    """A hundred writers of one object and one kind: every change gets a revision of its own."""
    lamps = Resource("", "v1", "configmaps")
    async with serving(tmp_path) as (_, kube):
        results = await asyncio.gather(
            *(
                kube.create(lamps, "default", json.dumps({"metadata": {"name": f"c{i % 50}"}}).encode())
                for i in range(100)
            ),
            return_exceptions=True,
        )
        made = [r for r in results if isinstance(r, bytes)]
        assert len(made) == 50
        assert len({json.loads(m)["metadata"]["resourceVersion"] for m in made}) == 50

"""The whole system as processes: two replicas of the cloud, one of them killed, and everything ended."""

from pathlib import Path

import pytest

from canopy.testing.processes import birth
from canopy.testing.system import System
from canopy.testing.wait import until

pytestmark = pytest.mark.server


async def test_two_replicas_of_the_cloud_serve_and_one_may_be_killed(tmp_path: Path) -> None:
    async with System(tmp_path, replicas=2, settings={"CLOUDHUB_BEAT_SECONDS": "1"}) as system:
        pids = system.pids()
        trust = {"spire_integration", "spire_integration-2"}
        assert pids.keys() == {"hub", "kubeserve", *trust, "cloud", "cloud-2", "edge-1/leaf", "edge-1/edge"}
        await system.unit("cloudhub").kill()
        async with system.api(replica=2) as api, system.kube() as kube:

            async def heard() -> bool:
                return any(node["online"] and node["ready"] for node in (await api.get("nodes"))["nodes"])

            await until(heard, 60)
            assert [node["metadata"]["name"] for node in await kube.all("Node")] == ["edge-1"]
        assert system.unit("devicetwin") is system.node().edge["edge"]
    assert not any(birth(pid) for pid, _ in pids.values())
    assert all(system.directory in log.parents and log.is_file() for _, log in pids.values())

"""Claim: from nothing to a working system by the documented commands, and the restricted profile refuses none of it."""

import re
import time

import kubectl as k
import pytest
from installation import OVERLAY, Installation, everything, rolled_out
from world import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


async def test_the_overlay_installs_from_nothing(installation: Installation) -> None:
    await installation.uninstall()
    installation.before = await until("all kinds can be listed", everything, 30)  # a kind may just be going
    began = time.monotonic()
    await installation.install()
    await installation.rolled_out()
    installation.figures.append(f"install to every pod ready: {time.monotonic() - began:.1f} s")


async def test_applying_it_again_changes_nothing(canopy: Installation) -> None:
    await k.kubectl(
        "apply", "-k", str(OVERLAY)
    )  # what it says is no proof: of a PodDisruptionBudget always "configured"

    async def same() -> bool:
        return await k.kubectl("diff", "-k", str(OVERLAY)) == ""

    await until("there is no difference", same, 30)  # a status that moves between its two looks is one, for that look


async def test_the_restricted_profile_refuses_nothing_of_the_cloud(canopy: Installation) -> None:
    labels = (await k.got("namespace", k.CLOUD))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert await _refusals() == []
    # Pods that were admitted before a label changed would not show: ask of all that is there, anew.
    dry = (
        "label",
        "--dry-run=server",
        "--overwrite",
        "namespace",
        k.CLOUD,
        "pod-security.kubernetes.io/enforce=restricted",
    )
    assert "violate" not in await k.kubectl(*dry)


async def test_the_restricted_profile_is_really_kept(canopy: Installation) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "greedy", "namespace": k.CLOUD},
        "spec": {"containers": [{"name": "c", "image": "canopy/cli:dev", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(k.Refused, match=re.escape('violates PodSecurity "restricted')):
        await k.apply(pod)


async def _refusals() -> list[str]:
    events = await k.items("events", "-n", k.CLOUD)
    return [e["message"] for e in events if "PodSecurity" in e.get("message", "")]


async def test_every_unit_says_that_it_is_ready(canopy: Installation) -> None:
    async def all_ready() -> bool:
        return all(k.ready(pod) for pod in await k.pods())

    await until("every pod is ready", all_ready, 60)
    assert {k.unit_of(pod) for pod in await k.pods()} >= {
        "nats",
        "redis",
        "cloudhub",
        "devicecontroller",
        "edgecontroller",
        "spire-server",
        "spire-integration",
    }
    await rolled_out(k.EDGE, "daemonset/edge")

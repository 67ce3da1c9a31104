"""What was decided about whom, anywhere, is in one place: also what a node decided while it was away and was killed.
And until when identities last, in the status.
"""

import asyncio
import json
import subprocess
import sys
import uuid
from typing import Any

import pytest
from stories import Stories

from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.one_mode("folded")]


async def canopy(stories: Stories, *arguments: str, token: str = "", code: int = 0) -> Any:
    """The command line's JSON."""
    system = stories.system
    environment = {
        "CANOPY_API_URL": system.api_url,
        "CANOPY_API_TOKEN": token or system.api_token,
        "CANOPY_ADMIN_SOCKET": str(system.home().identity / "admin.sock"),
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "canopy.cli.main", *arguments, "--output", "json"],
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd=system.directory,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if not code else done.stderr


async def records(stories: Stories, **filters: str) -> list[dict[str, Any]]:
    query = "&".join(f"{k}={v}" for k, v in filters.items())
    found: list[dict[str, Any]] = (await stories.api.get(f"audit?{query}"))["records"]
    return found


async def test_every_decision_is_shown_also_of_a_node_that_was_away_and_killed(stories: Stories) -> None:
    node, name = stories.system.node(), f"lamp-{uuid.uuid4().hex[:6]}"
    lamp = f"default/{name}"
    await stories.create(name)
    await until(lambda: _provisioned(stories, name), 30)
    await node.link.cut()
    await canopy(stories, "device", "revoke", lamp, "--reason", "stolen")
    await node.unit("edgeidentity").restart(kill=True)
    assert await records(stories, what="revocation", node=node.name) == []
    await node.link.join()

    async def came() -> Any:
        return await records(stories, what="revocation", node=node.name)

    (revoked,) = await until(came, 40)
    assert (revoked["subject"], revoked["reason"], revoked["outcome"]) == (lamp, "stolen", "ok")
    assert (revoked["node"], revoked["unit"]) == (node.name, "edgeidentity") and "uid" in revoked["where"]

    shown = (await canopy(stories, "audit", "--what", "provision", "--since", "10m"))["records"]
    assert [r["outcome"] for r in shown if r["subject"] == lamp].count("ok") == 1
    joined = await records(stories, who=f"node/{node.name}", outcome="ok", limit="1000")
    assert {(r["what"], r["unit"]) for r in joined} >= {("admission", "spire_integration")}
    assert all(r["serial"] and r["where"] for r in joined if r["what"] == "admission")
    assert "token" in await canopy(stories, "audit", token="another", code=1)
    await _lasting(stories)
    await stories.kube.delete("Device", name)


async def _lasting(stories: Stories) -> None:
    """The status says until when identities last, here and there."""

    async def whole() -> Any:
        found = await stories.api.get("status")
        names = {(one["node"], name) for one in found["identities"] for name in one["units"].split(", ")}
        node = stories.system.node().name
        return found if names >= {("", "cloudhub"), (node, "link"), (node, "edgehub")} else None

    found = await until(whole, 30)
    assert found["identities_count"] >= 3 and found["identities_late"] == 0
    assert all(one["until"] > 1_700_000_000_000 and not one["late"] for one in found["identities"])


async def _provisioned(stories: Stories, name: str) -> bool:
    """Once the node has heard of its device."""
    try:
        await canopy(stories, "device", "provision", name, "--out", name)
    except AssertionError:
        return False
    return True

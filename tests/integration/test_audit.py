"""What was decided about whom, anywhere, is in one place: also what a node decided while it was away and was killed.
And until when identities last, in the status.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from stories import Stories

from canopy.testing.system import System
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("audit")]


@pytest_asyncio.fixture(loop_scope="session")
async def stories(tmp_path: Path) -> AsyncIterator[Stories]:
    async with System(tmp_path) as system, system.kube() as kube, system.api() as api:
        told = Stories(system, kube, api)
        await told.prepare()
        yield told


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
    node = stories.system.node()
    await stories.create("lamp")
    await until(lambda: _provisioned(stories, "lamp"), 30)
    await node.link.cut()
    await canopy(stories, "device", "revoke", "default/lamp", "--reason", "stolen")
    await node.unit("edgeidentity").restart(kill=True)
    assert await records(stories, what="revocation") == []
    await node.link.join()

    async def came() -> Any:
        return await records(stories, what="revocation", node=node.name)

    (revoked,) = await until(came, 40)
    assert (revoked["subject"], revoked["reason"], revoked["outcome"]) == ("default/lamp", "stolen", "ok")
    assert (revoked["node"], revoked["unit"]) == (node.name, "edgeidentity") and "uid" in revoked["where"]

    shown = (await canopy(stories, "audit", "--what", "provision", "--since", "10m"))["records"]
    assert [(r["subject"], r["outcome"]) for r in shown if r["outcome"] == "ok"] == [("default/lamp", "ok")]
    joined = await records(stories, who=f"node/{node.name}", outcome="ok")
    assert {(r["what"], r["unit"]) for r in joined} >= {("admission", "spire_integration")}
    assert all(r["serial"] and r["where"] for r in joined if r["what"] == "admission")
    assert "token" in await canopy(stories, "audit", token="another", code=1)
    await _lasting(stories)


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

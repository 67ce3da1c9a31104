"""What a bug keeps from being handled is set aside where people see it, and what comes behind it goes on."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from poisoned import with_bugs
from stories import Stories
from talk import Talk

from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.one_mode("split")]  # bugs are put into single units
MESSAGES = 101


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def buggy(stories: Stories) -> AsyncIterator[Stories]:
    """The system with bugs in DeviceTwin and DeviceController."""
    system = stories.system
    async with with_bugs(system.unit("devicetwin")), with_bugs(system.unit("devicecontroller")):
        yield stories


async def canopy(stories: Stories, *arguments: str) -> Any:
    """The command line's JSON."""
    environment = {"CANOPY_API_URL": stories.system.api_url, "CANOPY_API_TOKEN": stories.system.api_token}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "canopy.cli.main", *arguments, "--output", "json"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def letters_of(stories: Stories, source: str) -> list[dict[str, Any]]:
    """Those whose source ends so, once there are any."""
    found: list[dict[str, Any]] = []

    async def come() -> bool:
        listed = (await stories.api.get("deadletters"))["deadletters"]
        found[:] = [letter for letter in listed if letter["source"].endswith(source)]
        return bool(found)

    await until(come, 20)
    return found


async def test_a_poisoned_mqtt_message_among_a_hundred_is_set_aside_also_across_a_cut_and_a_kill(
    buggy: Stories, one: Talk
) -> None:
    name, node = one.base.rpartition("/")[2], buggy.system.node()
    await node.link.cut()
    for n in range(MESSAGES):
        twin: dict[str, Any] = {"level": {"actual": {"value": str(min(n, 100))}}}
        if n == MESSAGES // 2:
            twin = {
                "poison": {"actual": {"value": "p"}, "metadata": {"type": "string"}},
                "password": {"actual": {"value": "hush"}},
            }
        await one.say("twin/update", {"event_id": f"e{n}", "twin": twin})
    results = [await one.next("twin/update/result") for _ in range(MESSAGES)]
    assert [r["event_id"] for r in results] == [f"e{n}" for n in range(MESSAGES)]
    assert [r["event_id"] for r in results if r.get("code") == 500] == [f"e{MESSAGES // 2}"]
    await node.unit("devicetwin").restart(kill=True)
    await node.link.join()
    await buggy.shows(name, {"level": "100"}, 20)
    (letter,) = await letters_of(buggy, f"{name}.twin.update")
    assert (letter["unit"], letter["node"], letter["error"]) == ("devicetwin", "edge-1", "KeyError")
    shown = await canopy(buggy, "deadletters", "show", letter["id"])
    assert f'"e{MESSAGES // 2}"' in shown["body_text"] and "poisoned_seal" in shown["traceback"]
    assert "hush" not in json.dumps(shown), "no secrets"
    listed = await canopy(buggy, "deadletters", "--node", "edge-1", "--since", "1h")
    assert [found["id"] for found in listed["deadletters"] if found["source"] == letter["source"]] == [letter["id"]]
    assert await canopy(buggy, "deadletters", "purge", letter["id"]) == {"purged": 1}
    listed = await canopy(buggy, "deadletters", "list", "--node", "edge-1")
    assert letter["id"] not in [found["id"] for found in listed["deadletters"]]


async def test_a_poisoned_device_does_not_keep_the_others_of_its_node_away(buggy: Stories, one: Talk) -> None:
    poison = f"poison-{uuid.uuid4().hex[:6]}"
    await buggy.create(poison)
    await buggy.kube.patch(
        "Device", one.base.rpartition("/")[2], {"spec": {"properties": [{"name": "level", "desired": {"value": "7"}}]}}
    )
    assert (await one.next("twin/update/delta"))["delta"]["level"] == "7"
    (letter,) = await letters_of(buggy, f"devices default/{poison}")
    assert (letter["unit"], letter["node"], letter["error"]) == ("devicecontroller", "", "KeyError")
    await buggy.kube.delete("Device", poison)

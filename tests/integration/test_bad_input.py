"""Bad input gets an error that names the field and what would be right, and the next good one works."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
from stories import Stories
from talk import Talk

from canopy.testing.clients import Refused

pytestmark = [pytest.mark.server, pytest.mark.one_mode("folded")]  # it is the same code in both


@pytest.mark.parametrize(
    ("desired", "words"),
    [
        ({"level": "101"}, ("level", "100")),
        ({"level": "many"}, ("level", "int")),
        ({"serial": "x"}, ("serial", "ReadOnly")),
        ({"colour": "red"}, ("colour", "level")),
        ({}, ("property",)),
        ({"level": 5}, ("level",)),
        ("not an object", ("object",)),
    ],
)
async def test_http_a_wrong_desired_value_names_the_field(
    stories: Stories, one: Talk, desired: Any, words: tuple[str, ...]
) -> None:
    name = one.base.rpartition("/")[2]
    with pytest.raises(Refused) as refused:
        await stories.api.set_desired("default", name, desired)
    assert refused.value.status in (400, 422), refused.value
    text = json.dumps(refused.value.body)
    assert all(word.lower() in text.lower() for word in words), text
    await stories.api.set_desired("default", name, {"level": "5"})


async def test_http_without_a_token_or_for_no_device_is_told_so(stories: Stories) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        bare = await client.get(f"{stories.system.api_url}/api/v1/devices")
        assert bare.status_code == 401 and "token" in bare.text.lower()
        docs = await client.get(f"{stories.system.api_url}/openapi.json")
        assert docs.status_code == 200 and "/api/v1/devices" in docs.text
    with pytest.raises(Refused) as refused:
        await stories.api.get("devices/default/nobody")
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"spec": {"nodeName": 7}}, "spec.nodeName"),
        ({"spec": {"properties": "all"}}, "spec.properties"),
        ({"spec": {"properties": [{"name": "level", "desired": {"value": 5}}]}}, "desired.value"),
    ],
)
async def test_yaml_a_wrong_manifest_is_refused_in_kubernetes_own_form(
    stories: Stories, one: Talk, change: dict[str, Any], field: str
) -> None:
    name = one.base.rpartition("/")[2]
    with pytest.raises(Refused) as refused:
        await stories.kube.patch("Device", name, change)
    assert refused.value.status == 422
    assert field in json.dumps(refused.value.body), refused.value.body
    await stories.kube.patch("Device", name, {"spec": {"nodeName": "edge-1"}})


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["device", "get", "nobody-there"], 3, ("nobody-there",)),
        (["device", "set", "default/light"], 2, ("property=value",)),
        (["device", "set", "default/light", "switch"], 2, ("switch", "=")),
        (["run", "nothing"], 2, ("nothing", "cloudhub")),
        (["run", "cloudhub", "edgehub"], 2, ("cloudhub", "edgehub")),
        (["mapper", "run", "no-such-file.py"], 2, ("no-such-file.py",)),
    ],
)
async def test_cli_what_is_wrong_is_named(
    stories: Stories, arguments: list[str], code: int, words: tuple[str, ...]
) -> None:
    environment = {"CANOPY_API_URL": stories.system.api_url, "CANOPY_API_TOKEN": stories.system.api_token}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "canopy.cli.main", *arguments],
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert all(word.lower() in said.lower() for word in words), said
    assert "Traceback" not in said

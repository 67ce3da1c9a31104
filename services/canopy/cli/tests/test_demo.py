"""`canopy demo` as a person runs it: the whole story, then nothing is left, however it ends."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.server, pytest.mark.timeout(200)]

END_SECONDS = 40


@pytest.mark.parametrize("how", [(), ("--split",)], ids=["folded", "split"])
def test_once_tells_the_whole_story_and_leaves_nothing(place: Any, how: tuple[str, ...]) -> None:
    began = time.monotonic()
    code, out = place.run("demo", "--once", *how)
    assert code == 0, out
    assert time.monotonic() - began < 60
    for number in range(1, 7):
        assert f"\n{number}. " in out
    for word in ("Ready", "DeviceStatus says switch=true", "node and cloud is cut", "caught up after"):
        assert word in out
    place.assert_nothing_left()


def test_a_step_that_fails_is_named_with_log_lines_and_exit_code_1(place: Any) -> None:
    wrong = place.root / "work/sitecustomize.py"
    wrong.write_text("import sys\nif 'canopy.kubeserve' in sys.orig_argv: sys.exit('no room here')\n")
    os.environ["PYTHONPATH"] = str(wrong.parent)
    try:
        code, out = place.run("demo", "--once")
    finally:
        del os.environ["PYTHONPATH"]
    assert code == 1
    assert "FAILED in step 1" in out and "kubeserve ended with exit code 1" in out and "no room here" in out
    assert place.running() == []


def test_a_killed_demo_leaves_no_process_the_next_one_starts_clean_and_ctrl_c_ends_it(place: Any) -> None:
    with place.events("demo", "--output", "json") as (killed, next_event):
        next_event(lambda e: e["event"] == "told" and "kubeserve" in e["text"])
        killed.kill()
        killed.wait()
        wait_until(lambda: place.running() == [], END_SECONDS)
    with place.events("demo", "--output", "json") as (demo, next_event):
        up = next_event(lambda e: e["event"] in ("up", "failed"))
        assert up["event"] == "up", up
        look_at(place, up["endpoints"])
        demo.send_signal(signal.SIGINT)
        assert demo.wait(END_SECONDS) == 0
    place.assert_nothing_left()


def look_at(place: Any, offered: dict[str, Any]) -> None:
    """While it is up: what is offered is there, the command line finds it, a second demo is refused."""
    file = place.root / "work/.demo/endpoints.json"
    found = json.loads(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    assert found.items() >= offered.items()
    wanted = {"mqtt_port", "node", "device", "api_url", "api_token", "kubeconfig", "hub_url", "processes"}
    assert wanted <= found.keys() and found["device"] == "default/light"
    assert all(Path(f"/proc/{p['pid']}").exists() and Path(p["log"]).is_file() for p in found["processes"].values())
    code, out = place.run("device", "set", "light", "switch=true", "--wait")
    assert code == 0, out
    code, out = place.run("device", "list", "--output", "json")
    assert code == 0 and json.loads(out)["devices"][0]["twin"]["twins"]["switch"]["reported"]["value"] == "true"
    code, out = place.run("device", "set", "light", "brightness=101")
    assert code == 1 and "brightness" in out and "at most 100" in out
    code, out = place.run("demo", "--once")
    assert code == 1 and "a demo is up in" in out
    os.kill(found["processes"]["edge-1/edge"]["pid"], signal.SIGKILL)
    wait_until(
        lambda: json.loads(file.read_text())["processes"]["edge-1/edge"] != found["processes"]["edge-1/edge"],
        END_SECONDS,
    )
    code, out = place.run("device", "set", "light", "switch=false", "--wait")
    assert code == 0, out


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.05)

"""One trace from device to Kubernetes and back, found in real processes, split and folded, and across a cut link."""

import secrets
from typing import Any

import pytest
from stories import Stories
from talk import Talk

from canopy.cli.trace import drawn
from canopy.testing.clients import Refused
from canopy.testing.wait import until

pytestmark = pytest.mark.server

REPORT = [
    "twin changed | devicetwin@edge-1",
    "  send states | devicetwin@edge-1",
    "    ask edge.hub.ask.report | devicetwin@edge-1",
    "      edge.hub.ask.report | edgehub@edge-1",
    "        ask node.{node}.ask.report | edgehub@edge-1",
    "          node.{node}.ask.report | cloudhub",
    "  store the state | cloudhub",
    "    write DeviceStatus | devicecontroller",
]
DESIRED = [
    "PUT fleet API | cloudhub",
    "  push the change | devicecontroller",
    "    say sets.{channel}.push.{node} | devicecontroller",
    "      sets.{channel}.push.{node} | cloudhub",
    "        say node.{node}.in.{nonce}.push.{channel} | cloudhub",
    "          node.{node}.in.{nonce}.push.{channel} | edgehub@edge-1",
    "            say edge.hub.push.{channel} | edgehub@edge-1",
    "              edge.hub.push.{channel} | metamanager@edge-1",
    "                say meta.changed.{channel} | metamanager@edge-1",
    "  twin changed | devicetwin@edge-1",
    "    twin.delta.{namespace}.{name} | mapper@edge-1",
    "      write the device | mapper@edge-1",
    "        report what was read back | mapper@edge-1",
    "          ask twin.report | mapper@edge-1",
    "            twin.report | devicetwin@edge-1",
    "              twin changed | devicetwin@edge-1",
    "                store the state | cloudhub",
    "                  write DeviceStatus | devicecontroller",
]


def _new() -> tuple[str, str]:
    """A trace id, and the traceparent that a device would send."""
    trace = secrets.token_hex(16)
    return trace, f"00-{trace}-{secrets.token_hex(8)}-01"


async def _found(stories: Stories, trace: str, expected: list[str], seconds: float = 15.0) -> list[str]:
    """Wait until the trace, drawn as `canopy trace` draws it, holds these lines in this order; its lines."""
    lines: list[str] = []

    async def drawn_so() -> bool:
        nonlocal lines
        try:
            found: Any = await stories.api.get(f"traces/{trace}")
        except Refused:  # no span of it has come yet
            return False
        lines = [f"{name} | {unit}" for name, unit, *_ in drawn(found["tree"])]
        return _holds(lines, expected)

    try:
        await until(drawn_so, seconds)
    except TimeoutError:
        raise AssertionError("\n".join(["expected:", *expected, "found:", *lines])) from None
    return lines


def _holds(lines: list[str], expected: list[str]) -> bool:
    left = iter(lines)
    return all(line in left for line in expected)


def _report(value: str, traceparent: str) -> dict[str, Any]:
    twin = {"t": {"actual": {"value": value}, "metadata": {"type": "int"}}}
    return {"event_id": value, "traceparent": traceparent, "twin": twin}


async def test_the_trace_of_a_report_leads_from_the_device_to_kubernetes(stories: Stories, one: Talk) -> None:
    trace, traceparent = _new()
    await one.say("twin/update", _report("1", traceparent))
    await _found(stories, trace, REPORT)
    listed = await stories.api.get(f"traces?device=default/{one.base.rpartition('/')[2]}&limit=5")
    assert trace in [t["trace_id"] for t in listed["traces"]]


async def test_the_trace_of_a_report_goes_on_after_a_cut_of_the_link(stories: Stories, one: Talk) -> None:
    trace, traceparent = _new()
    name, link = one.base.rpartition("/")[2], stories.system.node().link
    await link.cut()
    try:
        await one.say("twin/update", _report("2", traceparent))
        assert "code" not in await one.next("twin/update/result")
    finally:
        await link.join()
    await stories.shows(name, {"t": "2"}, 10)
    await _found(stories, trace, REPORT)


async def test_a_report_without_a_traceparent_is_traced_now_and_then(stories: Stories, one: Talk) -> None:
    name = one.base.rpartition("/")[2]
    await one.update({"t": {"actual": {"value": "3"}, "metadata": {"type": "int"}}})

    async def traces() -> list[str]:
        found = await stories.api.get(f"traces?device=default/{name}&limit=5")
        return [t["trace_id"] for t in found["traces"]]

    trace = (await until(traces, 15))[0]
    await _found(stories, trace, REPORT)


async def test_the_trace_of_a_desired_change_leads_to_the_device_and_back(stories: Stories) -> None:
    name = await stories.install_light(await stories.system.light())
    await stories.shows(name, {"switch": "false"}, 20)
    trace, traceparent = _new()
    await stories.api.set_desired("default", name, {"switch": "true"}, traceparent)
    await stories.shows(name, {"switch": "true"}, 10)
    await _found(stories, trace, DESIRED)
    await stories.kube.delete("Device", name)


@pytest.mark.one_mode("split")
async def test_a_desired_change_while_the_link_is_cut_is_one_trace_too(stories: Stories) -> None:
    name = await stories.install_light(await stories.system.light())
    await stories.shows(name, {"switch": "false"}, 20)
    trace, traceparent = _new()
    link = stories.system.node().link
    await link.cut()
    try:
        await stories.api.set_desired("default", name, {"switch": "true"}, traceparent)
    finally:
        await link.join()
    await stories.shows(name, {"switch": "true"}, 10)
    lost = [line for line in DESIRED if "edge.hub.push" in line or "meta.changed" in line or "in.{nonce}" in line]
    await _found(stories, trace, [line for line in DESIRED if line not in lost and "push.{node}" not in line])
    await stories.kube.delete("Device", name)

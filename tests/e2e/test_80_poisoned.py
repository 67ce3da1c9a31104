"""A message that meets a bug is set aside where people see it, its sender is told, and what comes behind it goes on."""

from pathlib import Path

from stories import Stories
from talk import Talk, device, talk
from telling import step
from topology import SPLIT, Topology

from canopy.testing.wait import until

MESSAGES = 21
SEEN_SECONDS = 20.0
INSIDE = "/poison"


async def test_a_poisoned_message(topology: Topology, stories: Stories) -> None:
    node, name = topology.nodes[SPLIT], "poisoned-one"
    box = node.units["devicetwin"]
    sound = box.spec
    folder = topology.run.folder("poison")
    (folder / "poison.py").write_text((Path(__file__).with_name("poison.py")).read_text())
    (folder / "poison.py").chmod(0o644)
    await stories.create(name)
    try:
        with step("DeviceTwin gets a bug"):
            path = {"PYTHONPATH": f"{INSIDE}:/opt/canopy/app:/opt/canopy/lib"}
            await box.remade(
                env={**sound.env, **path},
                mounts={**sound.mounts, folder: INSIDE},
                entrypoint=("python3", "-m", "poison"),
            )
        own = await node.contexts(name)
        async with talk(node.mqtt_port, device(name), context=own[name]) as one:
            await stories.known_at_the_edge(one)
            with step("one poisoned message among twenty: each is answered, one with an error"):
                results = await _said(one)
                assert [r["event_id"] for r in results if r.get("code") == 500] == ["poison"], results
            with step("what came behind it is seen"):
                await stories.shows(name, {"level": str(MESSAGES - 1)}, SEEN_SECONDS)
        with step("the dead letter stands in the fleet API"):
            await until(lambda: _letter(stories, name), SEEN_SECONDS)
            letter = await _letter(stories, name)
            assert (letter["unit"], letter["node"], letter["error"]) == ("devicetwin", SPLIT, "KeyError")
    finally:
        await box.remade(env=sound.env, mounts=sound.mounts, entrypoint=sound.entrypoint)
        await stories.kube.delete("Device", name)


async def _said(one: Talk) -> list[dict[str, object]]:
    for n in range(MESSAGES):
        twin: dict[str, object] = {"level": {"actual": {"value": str(n)}, "metadata": {"type": "int"}}}
        event = f"e{n}"
        if n == MESSAGES // 2:
            twin, event = {"poison": {"actual": {"value": "p"}, "metadata": {"type": "string"}}}, "poison"
        await one.say("twin/update", {"event_id": event, "twin": twin})
    return [await one.next("twin/update/result", SEEN_SECONDS) for _ in range(MESSAGES)]


async def _letter(stories: Stories, name: str) -> dict[str, object] | None:
    found = (await stories.api.get("deadletters"))["deadletters"]
    return next((letter for letter in found if letter["source"].endswith(f"{name}.twin.update")), None)

"""A node whose certificates end while it is away: it works on, takes in what is new, and comes back as itself.

Certificates of the node at the hub last 6 s, those of its units 8 s. `make test` keeps it away for two lives of the
first, with the fleet's roots taken away meanwhile and new ones made; CANOPY_TEST_LIFETIMES=30 for thirty, in which the
roots (60 s) end by themselves. Time is never faked: nats-server takes no other clock.
"""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from stories import Stories
from talk import Talk, device

from canopy.identity.certificates import certificates
from canopy.testing.child import HOST, free_port
from canopy.testing.servers import Link
from canopy.testing.system import System
from canopy.testing.wait import until

LIFETIMES = int(os.environ.get("CANOPY_TEST_LIFETIMES", "2"))
NODE_SECONDS, ROOT_SECONDS = 6, 60
pytestmark = [
    pytest.mark.server,
    pytest.mark.xdist_group("offline"),
    pytest.mark.timeout(150 + LIFETIMES * NODE_SECONDS),
]
SETTINGS = {
    "SPIRE_INTEGRATION_NODE_TTL_SECONDS": str(NODE_SECONDS),
    "SPIRE_INTEGRATION_BUILTIN_CA_TTL_SECONDS": str(ROOT_SECONDS),
    "EDGEIDENTITY_SVID_TTL_SECONDS": "8",
    "EDGEIDENTITY_CA_TTL_SECONDS": "3600",
}
"""The node's own root outlasts the test, since a device's certificate ends with it; roots that change: edgeidentity."""


@pytest_asyncio.fixture(loop_scope="session")
async def away(tmp_path: Path) -> AsyncIterator["Away"]:
    """Also the way to the endpoint at which it renews goes through a Link."""
    port = free_port()
    renewing = await Link.open(port)
    join = {"LISTEN": f"{HOST}:{port}", "URL": f"https://{HOST}:{renewing.port}"}
    settings = SETTINGS | {f"SPIRE_INTEGRATION_JOIN_{key}": value for key, value in join.items()}
    async with (
        System(tmp_path, settings=settings) as system,
        system.kube() as kube,
        system.api() as api,
    ):
        told = Stories(system, kube, api)
        await told.prepare()
        yield Away(told, renewing)
        await renewing.close()


class Away:
    """The node, and its ways to the cloud."""

    def __init__(self, stories: Stories, renewing: Link) -> None:
        self.stories, self.system = stories, stories.system
        self.home, self.links = self.system.home(), (renewing, self.system.node().link)
        self.provisioned = 0

    async def cut(self) -> None:
        await asyncio.gather(*(link.cut() for link in self.links))

    async def back(self) -> None:
        await asyncio.gather(*(link.join() for link in self.links))

    async def provision(self, name: str) -> ssl.SSLContext:
        """`canopy device provision` on the node: what a stock MQTT client needs to be that device."""
        self.provisioned += 1
        folder = self.home.folder / f"given-{self.provisioned}"
        socket = str(self.home.identity / "admin.sock")
        command = [sys.executable, "-m", "canopy.cli.main", "device", "provision", name, "--out", str(folder)]
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, "--socket", socket, "--output", "json"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        return context

    async def says(self, name: str, tls: ssl.SSLContext, level: int) -> None:
        """As a device does it: tries until it is let in, and until DeviceTwin has answered."""

        async def said() -> bool:
            try:
                async with self.client(tls) as client, asyncio.timeout(5):
                    talk = Talk(client, device(name))
                    listening = asyncio.create_task(talk.listen())
                    try:
                        await client.subscribe(f"{talk.base}/twin/update/result")
                        result = await talk.update({"level": {"actual": {"value": str(level)}}})
                        return result.get("code") is None
                    finally:
                        listening.cancel()
            except (aiomqtt.MqttError, TimeoutError):
                return False

        await until(said, 40)

    def client(self, tls: ssl.SSLContext) -> aiomqtt.Client:
        return aiomqtt.Client("localhost", self.home.mqtt_tls_port, tls_context=tls, timeout=5)

    async def restart(self) -> None:
        """The machine: its units and its leaf are killed, and started again without a cloud."""
        node = self.system.node()
        await asyncio.gather(*(process.kill() for process in node.edge.values()), node.leaf.server.kill())
        for process in node.edge.values():
            process.spawn()
        await node.leaf.server.start()

    def link_not_after(self) -> float:
        pem = (self.home.identity / "link" / "svid.pem").read_bytes()
        return certificates(pem)[0].not_valid_after_utc.timestamp()

    def roots(self) -> set[str]:
        """The fleet's, by the names of their files."""
        return {path.name for path in (self.system.directory / "trust" / "authority").glob("root-*.pem")}

    async def forget_roots(self) -> None:
        """What their end would do, sooner: nothing that they signed is believed any more, anywhere in the fleet."""
        before = self.roots()
        for path in (self.system.directory / "trust" / "authority").glob("root-*.pem"):
            path.unlink()
        await until(lambda: self.roots() and not self.roots() & before, 30)


async def test_a_node_away_for_many_lives_of_its_certificate_comes_back_as_itself_and_a_revoked_one_does_not(
    away: Away,
) -> None:
    stories = away.stories
    await stories.create("lamp")
    lamp = await away.provision("default/lamp")
    await away.says("lamp", lamp, 1)
    await stories.shows("lamp", {"level": "1"}, 30)
    await stories.create("fan")  # known to the node, and given its identity only when it is away
    await until(lambda: _listed(away, "fan"), 30)

    await away.cut()
    roots, cut_at = away.roots(), time.time()
    await away.says("lamp", lamp, 2)
    await away.restart()
    await away.says("lamp", lamp, 3)
    if LIFETIMES * NODE_SECONDS < ROOT_SECONDS:
        await away.forget_roots()
    fan = await away.provision("default/fan")
    await away.says("fan", fan, 4)
    await until(lambda: time.time() > cut_at + LIFETIMES * NODE_SECONDS, LIFETIMES * NODE_SECONDS)
    await away.restart()
    for name, tls in (("lamp", lamp), ("fan", fan)):
        await away.says(name, tls, 5)
    assert away.link_not_after() < cut_at + NODE_SECONDS
    assert not roots & away.roots(), "the fleet's authority of then is over"
    assert await stories.status("lamp") == {"level": "1"}

    await away.back()
    for name in ("lamp", "fan"):
        await stories.shows(name, {"level": "5"}, 90)
    assert away.link_not_after() > time.time() - NODE_SECONDS
    assert [node["name"] for node in (await stories.api.get("nodes"))["nodes"]] == ["edge-1"]

    await away.cut()
    await stories.api.call("POST", "nodes/edge-1/revoke", {"reason": "stolen"})
    await away.back()
    await away.says("lamp", lamp, 6)
    await until(lambda: time.time() > away.link_not_after() + 2, 30)  # it may not renew, nor come back
    assert await stories.status("lamp") == {"level": "5"}


async def _listed(away: Away, name: str) -> bool:
    held: dict[str, Any] = json.loads((away.home.identity / "gate.json").read_bytes())
    return ["default", name] in (held["devices"] or [])

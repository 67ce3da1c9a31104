"""Nodes: each a machine of its own (networks, processes, a Modbus light beside it), that joins with a token by the
command line, and then runs its leaf, edgeidentity and the edge units, split into sidecars or folded.

Devices get their certificates there too, by the command that people type.
"""

import asyncio
import json
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from boxes import Box, Run
from cloud_box import LEAF_URL
from specs import STORE, Spec, holder, image
from spire_box import TD

from canopy.bus.config import EDGE
from canopy.contracts.roles import EDGE_UNITS, EDGEIDENTITY
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE, Identity
from canopy.identity.svid import Bundle, Svid
from canopy.testing.child import free_port
from canopy.testing.clients import FleetClient
from canopy.testing.servers import LEAF_GO
from canopy.testing.wait import until

HERE = Path(__file__).parent
MQTT, CLIENTS, LEAF_HEALTH, UNIT_HEALTH, LIGHT = 8883, 4222, 8222, 8081, 5020
WRITTEN_SECONDS = 60.0
FOLDER = "/run/canopy"
"""What `canopy join --dir` is given."""
IDENTITY = f"{FOLDER}/identity"
SPLIT: tuple[str, ...] = (EDGEIDENTITY, *EDGE_UNITS)
FOLDED: tuple[str, ...] = (EDGE,)
CANOPY = ("python3", "-m", "canopy.cli.main")
WHEN_IT_IS_THERE = f"cd {IDENTITY}; until [ -s nats.conf ]; do sleep 0.2; done; exec nats-server -c $PWD/nats.conf"
"""As a restart policy would: edgeidentity writes the file, and it needs what joining left."""


@dataclass
class Node:
    """A node: the box that holds its network and processes, one in which commands are typed, its light, its leaf, and
    its units by process (a unit, or `edge`)."""

    name: str
    holder: Box
    cli: Box
    light: Box
    leaf: Box
    units: dict[str, Box]
    mqtt_port: int
    light_port: int
    client_port: int = 0
    _contexts: dict[str, ssl.SSLContext] = field(default_factory=dict)

    async def cut(self) -> None:
        """The link to the hub is gone; devices and the leaf see each other still."""
        await self.holder.cut("uplink")

    async def join(self) -> None:
        await self.holder.join("uplink")

    async def command(self, *words: str) -> tuple[int, str]:
        """(exit code, what it said) of `canopy WORD ...` on the node."""
        return await self.cli.run_inside(*CANOPY, *words)

    async def contexts(self, *devices: str) -> dict[str, ssl.SSLContext]:
        """TLS as each device (of namespace default) would have it: by its certificate and the node's roots. Made where
        none is yet, once the node knows the device."""
        new = [name for name in devices if name not in self._contexts]
        if new:
            script = (HERE / "provisioning.py").read_text()
            code, said = await self.cli.run_inside("python3", "-c", script, *new)
            assert code == 0, said
            made: dict[str, dict[str, str]] = json.loads(said.strip().rpartition("\n")[2])
            self._contexts |= {name: _context(files) for name, files in made.items()}
        return {name: self._contexts[name] for name in devices}

    async def identity_of(self, unit: str) -> Identity:
        """A unit's on this node, read where it is kept, as soon as it is written."""
        keeper = next(self.units[p] for p in (EDGEIDENTITY, EDGE) if p in self.units)
        files = [f"{IDENTITY}/units/{unit}/{file}" for file in (SVID_FILE, BUNDLE_FILE)]

        async def read() -> list[str] | None:
            said = [await keeper.run_inside("cat", file) for file in files]
            return None if any(code for code, _ in said) else [text for _, text in said]

        svid, bundle = await until(read, WRITTEN_SECONDS)
        return Identity(Svid.read(svid.encode()), Bundle.read(bundle.encode()))


class Nodes:
    """Makes them. `api` opens the fleet API, which gives tokens."""

    def __init__(self, run: Run, api: Callable[[], FleetClient]) -> None:
        self._run, self._api = run, api

    async def add(
        self, name: str, processes: tuple[str, ...], images: Mapping[str, str] | None = None, clients: bool = False
    ) -> Node:
        """A machine that joins and runs these processes, each from its image or from the one that `images` names. With
        `clients`, its leaf's own clients may come from this machine, in the place of a unit."""
        node = await self.machine(name, processes, images, clients)
        await self.joined(node)
        await self.started(node)
        return node

    async def joined(self, node: Node) -> str:
        """It has joined with a token; what the command said."""
        code, said = await node.command("join", "--token", await self.token(node.name), "--dir", FOLDER)
        assert code == 0, said
        return said

    async def token(self, name: str) -> str:
        async with self._api() as api:
            return await api.node_token(name)

    async def machine(
        self, name: str, processes: tuple[str, ...], images: Mapping[str, str] | None = None, clients: bool = False
    ) -> Node:
        """What it is before it joins; its leaf and units are not started yet."""
        mqtt, leaf, light, bus = free_port(), free_port(), free_port(), free_port() if clients else 0
        health = {process: free_port() for process in processes}
        ports = {MQTT: mqtt, LEAF_HEALTH: leaf} | {UNIT_HEALTH + i: health[p] for i, p in enumerate(processes)}
        if clients:
            ports[CLIENTS] = bus
        boxes = {
            of: self._run.box(spec)
            for of, spec in (
                ("holder", holder(f"{name}-net", ports=ports, networks=("site", "uplink"), memory="64m")),
                ("cli", self._cli(name)),
                ("light", Spec(f"{name}-light", image("light"), ports={LIGHT: light}, networks=("site",))),
                ("leaf", self._leaf(name, leaf)),
            )
        }
        units = dict[str, Box]()
        for i, process in enumerate(processes):
            spec = self._unit(name, process, processes, UNIT_HEALTH + i, health[process], clients)
            units[process] = self._run.box(replace(spec, image=(images or {}).get(process, spec.image)))
        node = Node(name, **boxes, units=units, mqtt_port=mqtt, light_port=light, client_port=bus)
        await node.holder.start()
        await asyncio.gather(node.cli.start(), node.light.start())
        return node

    async def started(self, node: Node) -> None:
        """Its leaf and its units, in any order."""
        await asyncio.gather(*(box.start() for box in (node.leaf, *node.units.values())))

    async def remove(self, name: str) -> None:
        """As if it had never been, but that the hub knows it."""
        boxes = [box for box in self._run.boxes.values() if box.name.startswith(f"{name}-")]
        for box in sorted(boxes, key=lambda box: not box.spec.inside):  # first those inside another's network
            await box.gone()
            del self._run.boxes[box.name]
        for volume in {v for box in boxes for v in (*box.spec.volumes, *box.spec.in_memory)}:
            await asyncio.to_thread(self._run.forget, volume)

    # --- its parts ----------------------------------------------------------------------------------------------------
    def _cli(self, name: str) -> Spec:
        volumes = {f"{name}-identity": FOLDER, f"{name}-devices": STORE}
        env = {"CANOPY_ADMIN_SOCKET": f"{IDENTITY}/admin.sock"}
        return holder(f"{name}-cli", "cli", env=env, volumes=volumes, inside=f"{name}-net", memory="128m")

    def _leaf(self, name: str, health: int) -> Spec:
        return Spec(
            f"{name}-leaf",
            image("nats"),
            env=LEAF_GO,
            entrypoint=("sh", "-c", WHEN_IT_IS_THERE),
            volumes={f"{name}-leaf": STORE, f"{name}-identity": f"{FOLDER}:ro"},
            inside=f"{name}-net",
            processes=f"{name}-net",  # edgeidentity tells a leaf whose certificate ended by a signal
            health=f"http://127.0.0.1:{health}/healthz",
        )

    def _unit(
        self, node: str, process: str, processes: tuple[str, ...], inside: int, outside: int, clients: bool
    ) -> Spec:
        spec = Spec(
            f"{node}-{process}",
            image(process),
            env={
                "CANOPY_NODE_NAME": node,
                "CANOPY_TRUST_DOMAIN": TD,
                "CANOPY_NATS_URL": f"tls://127.0.0.1:{CLIENTS}",
                "CANOPY_IDENTITY_DIR": FOLDER,
                "CANOPY_HEALTH_LISTEN": f"0.0.0.0:{inside}",
                "CANOPY_INSECURE_LISTEN": "true",
            },
            volumes={f"{node}-{process}": STORE},
            in_memory={_volume(node, process): f"{FOLDER}:ro"},
            inside=f"{node}-net",
            health=f"http://127.0.0.1:{outside}/readyz",
        )
        return _keeper(spec, node, process, processes, clients) if process in (EDGEIDENTITY, EDGE) else spec


def _keeper(spec: Spec, node: str, process: str, processes: tuple[str, ...], clients: bool) -> Spec:
    """Who keeps the node's identities; a sidecar sees nothing of them but its own."""
    prefix = f"CANOPY_{EDGEIDENTITY.upper()}_"
    env = {
        "CANOPY_UNITS": " ".join((EDGEIDENTITY, *EDGE_UNITS) if process == EDGE else (EDGEIDENTITY,)),
        "CANOPY_IDENTITY_DIR": f"{IDENTITY}/units/{process}",
        f"{prefix}FOLDER": IDENTITY,
        f"{prefix}STORE_FOLDER": f"{STORE}/js",
        f"{prefix}HUB_URL": LEAF_URL,
        f"{prefix}MQTT_LISTEN": f"0.0.0.0:{MQTT}",
        f"{prefix}LEAF_LISTEN": f"{'0.0.0.0' if clients else '127.0.0.1'}:{CLIENTS}",
        f"{prefix}LEAF_HTTP": f"0.0.0.0:{LEAF_HEALTH}",
    }
    others = [one for one in processes if one != process]
    in_memory = {_volume(node, other): f"{IDENTITY}/units/{other}" for other in others}
    if others:
        in_memory = {f"{node}-units": f"{IDENTITY}/units", **in_memory}
    return replace(
        spec,
        env={**spec.env, **env},
        volumes={**spec.volumes, f"{node}-identity": FOLDER},
        in_memory=in_memory,
        processes=f"{node}-net",
        health="" if processes == (EDGEIDENTITY,) else spec.health,  # without DeviceTwin it lets no device in
    )


def _volume(node: str, unit: str) -> str:
    return f"{node}-identity-{unit}"


def _context(files: Mapping[str, str]) -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in files.items():
            (Path(scratch) / name).write_text(text)
        context = ssl.create_default_context(cadata=files["ca.pem"])
        context.load_cert_chain(Path(scratch) / "cert.pem", Path(scratch) / "key.pem")
    return context

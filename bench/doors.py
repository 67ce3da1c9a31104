"""How stock MQTT clients come to the first node: the options of mosquitto_pub, mosquitto_sub and mosquitto_rr.

As at a real site: each device has a certificate of its own, and speaks TLS with the node's gateway; who only listens to
the node is an app, with a certificate too. `plain`: the devices come by the port without TLS, the front.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from canopy.contracts import admin as words
from canopy.contracts.admin import AdminAnswer, AdminAsk
from canopy.identity import ids
from canopy.identity.admin import ask
from canopy.identity.svid import Bundle, make_csr, new_key
from canopy.testing.child import HOST
from canopy.testing.system import System
from canopy.testing.wait import until

KNOWN_SECONDS = 30.0
DAY_SECONDS = 86_400

Door = tuple[str, ...]


class Doors:
    """Of one system. Each device and app is given its certificate once, and comes by it as often as it likes."""

    def __init__(self, system: System, plain: bool = False) -> None:
        self._system, self._plain = system, plain
        self._given: dict[str, Door] = {}

    @property
    def anybody(self) -> Door:
        """The port without TLS, where one client hears what all devices are told."""
        return ("-h", HOST, "-p", str(self._system.node().mqtt_port))

    async def device(self, name: str) -> Door:
        """Of namespace default; waits until edgeidentity has heard of it."""
        if self._plain:
            return self.anybody
        whose = {"namespace": "default", "name": name}
        who = words.WhoAsk(**whose)
        return await self._of(name, who, partial(words.ProvisionAsk, **whose, ttl_seconds=DAY_SECONDS, by="bench"))

    async def app(self) -> Door:
        """Hears what the node says of itself."""
        who = words.WhoAsk(app="bench")
        return await self._of("app", who, partial(words.AppAsk, app="bench", ttl_seconds=DAY_SECONDS))

    async def _of(self, name: str, who: words.WhoAsk, asked: Callable[..., AdminAsk]) -> Door:
        if name not in self._given:
            id, key = ids.parse((await self._answer(who)).id), new_key()
            answer = await self._answer(asked(csr=make_csr(key, id).decode()))
            self._given[name] = self._written(name, key, answer)
        return self._given[name]

    async def _answer(self, asked: AdminAsk) -> AdminAnswer:
        socket = self._system.home().identity / "admin.sock"

        async def answered() -> AdminAnswer | None:
            answer = await ask(socket, asked)
            if answer.verdict in (words.NOT_FOUND, words.AWAY):
                return None
            if answer.verdict != words.OK:
                raise RuntimeError(f"edgeidentity gives nothing: {answer.reason}")
            return answer

        found: AdminAnswer = await until(answered, KNOWN_SECONDS)
        return found

    def _written(self, name: str, key: bytes, answer: AdminAnswer) -> Door:
        folder = self._system.directory / "certificates" / name
        folder.mkdir(parents=True)
        files = {"ca": b"".join(Bundle.read(answer.bundle.encode()).roots_pem), "cert": answer.chain.encode()}
        for what, pem in {**files, "key": key}.items():
            (folder / f"{what}.pem").write_bytes(pem)
        ca, cert, private = (str(Path(folder, f"{what}.pem")) for what in ("ca", "cert", "key"))
        port = str(self._system.home().mqtt_tls_port)
        return ("-h", HOST, "-p", port, "--cafile", ca, "--cert", cert, "--key", private)

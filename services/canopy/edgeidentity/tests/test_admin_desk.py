"""What the admin socket gives, refuses and takes back; all of it in the audit."""

from pathlib import Path

import pytest

from canopy.contracts import admin as words
from canopy.contracts.admin import AdminAnswer, AdminAsk
from canopy.contracts.wire import Name
from canopy.edgeidentity import device_tokens
from canopy.edgeidentity.admin_desk import LATER, Desk, Places
from canopy.edgeidentity.admin_peer import Peer
from canopy.edgeidentity.provision_book import Book
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.svid import Bundle, make_csr, new_key, verify_chain
from canopy.runtime.audit import AuditLog
from canopy.testing.clock import FrozenClock

TD, NODE, DOMAIN = "canopy.test", "edge-1", "edge-1.canopy.test"
LAMP: Name = ("default", "lamp")
ROOT = Peer(77, 0, 0)
KEY = new_key()


class Devices:
    """The set of the node, and who is revoked."""

    def __init__(self) -> None:
        self.listed, self.revoked = frozenset({LAMP}), set[Name]()

    def revoke(self, name: Name) -> None:
        self.revoked.add(name)

    def restore(self, name: Name) -> None:
        self.revoked.discard(name)


class World:
    def __init__(self, folder: Path, front_port: int = 8884) -> None:
        self.clock, self.folder, self.devices, self.changed = FrozenClock(), folder, Devices(), list[Name | None]()
        self.authority = Builtin(folder / "authority", DOMAIN, ca_ttl_seconds=10**7, clock=self.clock)
        self.audit, self.settled = AuditLog("edgeidentity", self.clock), True
        self.places = Places("localhost", 8883, "localhost", front_port)
        self.book = Book(TD, NODE, folder / "devices.json")
        self.desk = Desk(
            TD, NODE, self.authority, self.devices, self.book, self.audit, self.clock, self.places,
            self.changed.append, self._settled,
        )  # fmt: skip

    async def _settled(self) -> bool:
        return self.settled

    async def ask(self, ask: AdminAsk) -> AdminAnswer:
        return await self.desk.handle(ask, ROOT)

    async def provision(self, ttl_seconds: float = 3600.0, name: str = "lamp") -> AdminAnswer:
        who = await self.ask(words.WhoAsk(namespace="default", name=name))
        if who.verdict != words.OK:
            return who
        csr = make_csr(KEY, ids.parse(who.id)).decode()
        return await self.ask(
            words.ProvisionAsk(namespace="default", name=name, csr=csr, ttl_seconds=ttl_seconds, by="alice")
        )

    async def token(self) -> str:
        given = await self.ask(words.DeviceTokenAsk(namespace="default", name="lamp", ttl_seconds=3600.0))
        assert given.verdict == words.OK, given.reason
        return given.token

    def said(self) -> list[tuple[str, str, str, str]]:
        return [(r.what, r.outcome, r.who, r.subject) for r in self.audit.waiting(99)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_device_of_the_node_gets_a_certificate_that_its_node_trusts(world: World) -> None:
    answer = await world.provision(3600)
    now = world.clock.now_ms() / 1000
    bundle = Bundle.read(answer.bundle.encode())
    assert verify_chain(answer.chain.encode(), bundle, now) == ids.device(TD, NODE, *LAMP)
    assert answer.not_after == round((now + 3600) * 1000)
    assert (answer.host, answer.port, answer.reason) == ("localhost", 8883, "")
    assert world.said() == [("provision", "ok", "root (alice)", "default/lamp")]
    (record,) = world.audit.waiting(9)
    assert record.serial and record.not_after == answer.not_after and record.where == "pid 77 uid 0 gid 0"
    assert world.changed == [LAMP]


async def test_a_device_that_is_not_of_the_node_is_refused_in_words_and_in_the_audit(world: World) -> None:
    answer = await world.ask(words.ProvisionAsk(namespace="default", name="fan", csr="x", ttl_seconds=3600))
    assert answer.verdict == words.NOT_FOUND and "set spec.nodeName" in answer.reason
    assert (await world.provision(name="fan")).verdict == words.NOT_FOUND
    assert (await world.ask(words.DeviceRevokeAsk(namespace="default", name="fan"))).verdict == words.NOT_FOUND
    said = [(r.what, r.outcome, r.count) for r in world.audit.waiting(9)]
    assert said == [("provision", "refused", 2), ("revocation", "refused", 1)]
    assert world.changed == [] and not world.book.all


@pytest.mark.parametrize(
    "ask",
    [
        words.ProvisionAsk(namespace="default", name="../x", csr="", ttl_seconds=3600),
        words.ProvisionAsk(namespace="default", name="lamp", csr="no csr", ttl_seconds=3600),
        words.ProvisionAsk(namespace="default", name="lamp", csr="", ttl_seconds=1),
        words.ProvisionAsk(namespace="default", name="lamp", csr="", ttl_seconds=1e12),
        words.DeviceTokenAsk(namespace="default", name="lamp", ttl_seconds=float("1e-9")),
        words.DeviceRevokeAsk(namespace="A", name="*"),
        words.AppAsk(app="../leaf", csr="", ttl_seconds=3600),
        words.WhoAsk(app=">"),
    ],
)
async def test_what_cannot_be_is_refused(world: World, ask: AdminAsk) -> None:
    answer = await world.ask(ask)
    assert answer.verdict == words.REFUSED and answer.reason and not answer.chain and not answer.token


async def test_a_request_for_another_identity_is_refused(world: World) -> None:
    csr = make_csr(KEY, ids.local(TD, NODE, "devicetwin")).decode()
    answer = await world.ask(words.ProvisionAsk(namespace="default", name="lamp", csr=csr, ttl_seconds=3600))
    assert answer.verdict == words.REFUSED and not answer.chain


async def test_a_revoked_device_is_another_one_when_it_is_provisioned_anew(world: World) -> None:
    first = await world.provision()
    token = await world.token()
    revoked = await world.ask(words.DeviceRevokeAsk(namespace="default", name="lamp", reason="stolen"))
    assert revoked.id == first.id and world.devices.revoked == {LAMP}
    assert device_tokens.refusal(world.book.of(LAMP).token, token.encode(), world.clock.now_ms())
    again = await world.provision()
    assert again.id == first.id + "/1" and world.devices.revoked == set()
    assert verify_chain(again.chain.encode(), Bundle.read(again.bundle.encode()), world.clock.now_ms() / 1000).path
    assert [what for what, *_ in world.said()] == ["provision", "token", "revocation", "provision"]
    assert [r.reason for r in world.audit.waiting(9)][2] == "stolen"


async def test_generations_and_passwords_outlast_a_restart_and_the_device(world: World, tmp_path: Path) -> None:
    await world.provision()
    await world.ask(words.DeviceRevokeAsk(namespace="default", name="lamp"))
    token = await world.token()
    world.devices.listed = frozenset()
    again = Book(TD, NODE, tmp_path / "devices.json")
    assert str(again.identity(LAMP)).endswith("/device/default/lamp/1")
    assert device_tokens.refusal(again.of(LAMP).token, token.encode(), world.clock.now_ms()) == ""
    assert token not in (tmp_path / "devices.json").read_text()
    assert (tmp_path / "devices.json").stat().st_mode & 0o777 == 0o600


async def test_a_device_that_has_gone_can_still_be_revoked(world: World) -> None:
    await world.provision()
    world.devices.listed = frozenset()
    assert (await world.ask(words.DeviceRevokeAsk(namespace="default", name="lamp"))).verdict == words.OK


async def test_a_book_that_cannot_be_read_is_an_error_and_no_empty_book(tmp_path: Path) -> None:
    (tmp_path / "devices.json").write_text("{")
    with pytest.raises(OSError, match="back-up"):
        Book(TD, NODE, tmp_path / "devices.json")


async def test_an_answer_says_when_the_leaf_does_not_know_it_yet(world: World) -> None:
    world.settled = False
    assert (await world.provision()).reason == LATER


async def test_no_password_is_given_where_nobody_would_take_it(tmp_path: Path) -> None:
    answer = await World(tmp_path, front_port=0).ask(
        words.DeviceTokenAsk(namespace="default", name="lamp", ttl_seconds=60)
    )
    assert answer.verdict == words.REFUSED and "FRONT_LISTEN" in answer.reason


async def test_a_workload_gets_its_identity_and_the_audit_says_which_workload_it_is(world: World) -> None:
    who = await world.ask(words.WhoAsk(app="camera"))
    csr = make_csr(KEY, ids.parse(who.id)).decode()
    answer = await world.ask(words.AppAsk(app="camera", csr=csr, ttl_seconds=600, workload="uid 7 /bin/x"))
    bundle = Bundle.read((await world.ask(words.BundleAsk())).bundle.encode())
    assert verify_chain(answer.chain.encode(), bundle, world.clock.now_ms() / 1000) == ids.app(TD, NODE, "camera")
    assert [(r.what, r.who, r.reason) for r in world.audit.waiting(9)] == [("workload", who.id, "uid 7 /bin/x")]
    assert world.book.apps(answer.not_after - 1) == [("camera", ids.app(TD, NODE, "camera"))]
    assert world.book.apps(answer.not_after) == []


def test_a_password_opens_until_its_time_and_a_wrong_one_never() -> None:
    token, kept = device_tokens.made(1000, 2000, "root")
    assert token not in repr(kept)
    assert device_tokens.refusal(kept, token.encode(), 1999) == ""
    assert "over" in device_tokens.refusal(kept, token.encode(), 2000)
    assert "wrong" in device_tokens.refusal(kept, token.encode()[:-1], 1999)
    assert "wrong" in device_tokens.refusal(kept, b"", 1999)
    assert device_tokens.refusal(None, token.encode(), 0)


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ("default/lamp", LAMP),
        ("default.lamp", LAMP),
        ("default/lamp.a", ("default", "lamp.a")),
        ("default.lamp.a", ("default", "lamp.a")),
        ("lamp", None),
        ("", None),
        ("default/../x", None),
        ("default/*", None),
    ],
)
def test_a_user_name_says_a_device(user: str, name: Name | None) -> None:
    assert device_tokens.named(user) == name

"""The bus over real servers: asks and their outcomes, the link with its imports, what is refused, reconnects."""

import asyncio
import logging
from typing import Any

import pytest

from canopy.bus import AskTimeout, Bus, Connection, NoResponders, Place, Reject, Retry
from canopy.bus.bus import TooBig
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.contracts.subject import BadToken
from canopy.identity import ids
from canopy.identity.sources import FileSource
from canopy.testing.child import HOST
from canopy.testing.domain import TD
from canopy.testing.wait import until
from canopy.testing.world import NODE, OTHER, World

pytestmark = pytest.mark.server
AS_OF = wire.AsOf(epoch=1, revisions={"Device": 5})
PUSH = wire.Push(as_of=AS_OF, hash="00")


async def _page(ask: wire.SetAsk, place: Place[Any]) -> wire.PageAnswer:
    return wire.PageAnswer(hash=f"{ask.node} {place['channel']}")


async def test_an_ask_is_answered_and_what_is_said_is_heard(world: World) -> None:
    hub, controller = await world.cloud("cloudhub"), await world.cloud("devicecontroller")
    await controller.serve(c.SET_PAGE, _page)
    answer = await hub.ask(c.SET_PAGE, wire.SetAsk(node=NODE, ask=wire.PageAsk()), channel="devices", timeout=5)
    assert answer.hash == f"{NODE} devices"

    heard: list[tuple[str, wire.Push]] = []

    async def hear(push: wire.Push, place: Place[Any]) -> None:
        heard.append((place["node"], push))

    await hub.hear(c.SET_PUSH, hear)
    await controller.say(c.SET_PUSH, PUSH, channel="devices", node=NODE)
    await until(lambda: heard)
    assert heard == [(NODE, PUSH)]


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (Reject(404, "no such\nnode é"), Reject(404, "no such node é")),
        (Retry("not yet", 2.5), Retry("not yet", 2.5)),
        (ZeroDivisionError(), Retry("internal error; the unit's log has the traceback")),
    ],
)
async def test_what_a_handler_raises_reaches_the_asker(world: World, raised: Exception, seen: Exception) -> None:
    async def fail(ask: wire.SetAsk, place: Place[Any]) -> wire.PageAnswer:
        raise raised

    hub, controller = await world.cloud("cloudhub"), await world.cloud("devicecontroller")
    await controller.serve(c.SET_PAGE, fail)
    with pytest.raises(type(seen)) as caught:
        await hub.ask(c.SET_PAGE, wire.SetAsk(node=NODE, ask=wire.PageAsk()), channel="devices", timeout=5)
    assert str(caught.value) == str(seen)


async def test_a_message_of_another_shape_is_refused(world: World) -> None:
    hub, controller = await world.cloud("cloudhub"), await world.cloud("devicecontroller")
    await controller.serve(c.SET_PAGE, _page)
    with pytest.raises(Reject, match="400"):
        await hub.ask_raw(c.SET_PAGE, b'{"node": 5}', channel="devices", timeout=5)


async def test_nobody_there_is_not_the_same_as_nobody_answering(world: World) -> None:
    hub, controller = await world.cloud("cloudhub"), await world.cloud("devicecontroller")
    ask = wire.SetAsk(node=NODE, ask=wire.PageAsk())
    with pytest.raises(NoResponders):
        await hub.ask(c.SET_PAGE, ask, channel="devices")

    async def sleep(ask: wire.SetAsk, place: Place[Any]) -> wire.PageAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    await controller.serve(c.SET_PAGE, sleep, concurrency=2)
    with pytest.raises(AskTimeout):
        await hub.ask(c.SET_PAGE, ask, channel="devices", timeout=0.05)
    for task in controller._dispatches[0]._running:
        task.cancel()


async def test_an_answer_that_is_too_big_is_seen_by_the_asker_at_once(world: World) -> None:
    async def big(ask: wire.SetAsk, place: Place[Any]) -> wire.PageAnswer:
        return wire.PageAnswer(hash="x" * wire.MAX_BODY_BYTES)

    hub, controller = await world.cloud("cloudhub"), await world.cloud("devicecontroller")
    await controller.serve(c.SET_PAGE, big)
    with pytest.raises(Retry):
        await hub.ask(c.SET_PAGE, wire.SetAsk(node=NODE, ask=wire.PageAsk()), channel="devices", timeout=5)


async def test_what_is_too_big_or_not_in_the_role_never_leaves(world: World) -> None:
    controller = await world.cloud("devicecontroller")
    with pytest.raises(TooBig):
        await controller.say(c.SET_PUSH, wire.Push(as_of=AS_OF, hash="x" * 250_000), channel="devices", node=NODE)
    with pytest.raises(PermissionError):
        await controller.say(c.PRESENCE, wire.Presence(node=NODE, at=1, session=1), node=NODE)
    with pytest.raises(PermissionError):
        await controller.hear(c.PRESENCE, _page)
    with pytest.raises(PermissionError):
        await controller.serve(c.HELLO, _page)
    with pytest.raises(BadToken):
        await controller.say(c.SET_PUSH, PUSH, channel="devices", node="*")


async def test_replicas_share_what_is_asked(world: World) -> None:
    hub = await world.cloud("cloudhub")
    served = {"a": 0, "b": 0}

    def serving(name: str) -> Any:
        async def serve(ask: wire.SetAsk, place: Place[Any]) -> wire.PageAnswer:
            served[name] += 1
            return wire.PageAnswer()

        return serve

    for name in served:
        await (await world.cloud("devicecontroller")).serve(c.SET_PAGE, serving(name))
    for _ in range(40):
        await hub.ask(c.SET_PAGE, wire.SetAsk(node=NODE, ask=wire.PageAsk()), channel="devices", timeout=5)
    assert sum(served.values()) == 40 and all(served.values())


# --- the link ---------------------------------------------------------------------------------------------------------
async def _hello(ask: wire.Hello, place: Place[Any]) -> wire.HelloAnswer:
    return wire.HelloAnswer(session=7, nonce=place["node"].replace(".", "-"))


async def joined(world: World, node: str = NODE) -> Bus:
    await world.leaf(node)
    edgehub = await world.edge("edgehub", node)

    async def try_it() -> bool:
        try:
            return bool(await edgehub.ask(c.HELLO, wire.Hello(), node=node, timeout=0.5))
        except (NoResponders, AskTimeout):
            return False

    await until(try_it)
    return edgehub


async def test_a_node_asks_the_cloud_through_the_import_and_hears_its_pushes(world: World) -> None:
    hub = await world.cloud("cloudhub")
    await hub.serve(c.HELLO, _hello)
    edgehub = await joined(world)
    answer = await edgehub.ask(c.HELLO, wire.Hello(), node=NODE, timeout=5)
    assert (answer.session, answer.nonce) == (7, "edge-1")

    heard: list[tuple[str, wire.Push]] = []

    async def hear(push: wire.Push, place: Place[Any]) -> None:
        heard.append((place["nonce"], push))

    await edgehub.hear(c.PUSH, hear)
    await hub.say(c.PUSH, PUSH, node=OTHER, nonce="n1", channel="devices")
    await hub.say(c.PUSH, PUSH, node=NODE, nonce="n2", channel="devices")
    await until(lambda: heard)
    assert heard == [("n2", PUSH)]


async def test_a_push_forged_through_a_reply_subject_is_dropped(world: World, caplog: pytest.LogCaptureFixture) -> None:
    hub = await world.cloud("cloudhub")
    await hub.serve(c.HELLO, _hello)
    edgehub = await joined(world)
    heard: list[wire.Push] = []

    async def hear(push: wire.Push, place: Place[Any]) -> None:
        heard.append(push)

    await edgehub.hear(c.PUSH, hear)
    client = edgehub.connection.client
    target = c.PUSH.at(node=NODE, nonce="n", channel="devices")
    await client.publish(c.HELLO.at(node=NODE), b"{}", reply=target)  # CloudHub's answer comes as a push
    await hub.say(c.PUSH, PUSH, node=NODE, nonce="n", channel="devices")
    await until(lambda: heard)
    assert all(push == PUSH for push in heard)


async def test_a_node_cannot_ask_as_another_nor_reach_the_clouds_streams(world: World) -> None:
    hub = await world.cloud("cloudhub")
    asked: list[str] = []

    async def hello(ask: wire.Hello, place: Place[Any]) -> wire.HelloAnswer:
        asked.append(place["node"])
        return wire.HelloAnswer(session=7)

    await hub.serve(c.HELLO, hello)
    edgehub = await joined(world)
    asked.clear()
    with pytest.raises((NoResponders, AskTimeout)):
        await edgehub.ask(c.HELLO, wire.Hello(), node=OTHER, timeout=0.2)
    await edgehub.ask(c.HELLO, wire.Hello(), node=NODE, timeout=5)
    assert asked == [NODE]


async def test_a_cut_link_is_nobody_there_at_once_and_a_joined_one_heals(world: World) -> None:
    hub = await world.cloud("cloudhub")
    await hub.serve(c.HELLO, _hello)
    edgehub = await joined(world)
    await world.links[NODE].cut()

    async def down() -> bool:
        try:
            await edgehub.ask(c.HELLO, wire.Hello(), node=NODE, timeout=0.5)
        except NoResponders:
            return True
        except AskTimeout:
            pass
        return False

    await until(down)
    await world.links[NODE].join()

    async def up() -> bool:
        return not await down()

    await until(up)


async def test_what_was_served_is_served_again_after_a_restart_of_the_server(world: World) -> None:
    hub, controller = await world.cloud("cloudhub"), await world.cloud("devicecontroller")
    await controller.serve(c.SET_PAGE, _page)
    back: list[str] = []

    async def hook() -> None:
        back.append("back")

    hub.connection.on_reconnect(hook)
    run = hub.connection.server_run
    await world.hub.server.restart(kill=True)

    async def answered() -> bool:
        try:
            ask = wire.SetAsk(node=NODE, ask=wire.PageAsk())
            return bool(await hub.ask(c.SET_PAGE, ask, channel="devices", timeout=0.2))
        except (NoResponders, AskTimeout):
            return False

    await until(answered)
    await until(lambda: back)  # it may run a moment after the first answer
    assert back == ["back"] and hub.connection.server_run != run


async def test_an_open_waits_for_a_server_and_says_so_rarely(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    tries: list[None] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(None)
        writer.close()

    listener = await asyncio.start_server(hang_up, HOST, 0)
    url, folder = f"nats://{HOST}:{listener.sockets[0].getsockname()[1]}", await world.files(ids.cloud(TD, "cloudhub"))
    opening = asyncio.create_task(
        Connection.open(url, name="x", identity=FileSource(folder), expected=frozenset({ids.hub(TD)}))
    )
    await until(lambda: len(tries) > 8)
    lines = [text for r in caplog.records if url in (text := r.getMessage())]
    assert 1 <= len(lines) <= 2, lines
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    listener.close()


async def test_a_lost_connection_says_so_once_and_says_are_dropped(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    controller = await world.cloud("devicecontroller")
    await world.hub.server.kill()
    await until(lambda: not controller.connection.connected)
    for _ in range(60):
        await controller.say(c.SET_PUSH, wire.Push(as_of=AS_OF, hash="x" * 100_000), channel="devices", node=NODE)
    await until(lambda: controller.connection._failures > 5)
    both = 3 + 4  # whoever answers the callout loses his too, and tries more often: he says his 20th try besides
    lines = [r.getMessage() for r in caplog.records if r.name == "canopy.bus"]
    assert len(lines) <= both, lines


async def test_who_closes_while_the_server_is_away_tries_no_further(world: World) -> None:
    """Of thirty that try as often as they can, a dozen did: each lost its cancelling in a bound of time."""
    clients = [(await world.cloud("edgecontroller")).connection.client for _ in range(30)]
    for client in clients:
        client.options["reconnect_time_wait"] = 0.001
    await world.hub.server.kill()
    await until(lambda: not any(client.is_connected for client in clients))
    for client in clients:
        await client.ended()
    trying = [client._reconnection_task for client in clients if client._reconnection_task is not None]
    assert len(trying) == len(clients)
    await until(lambda: all(task.done() for task in trying))


async def test_a_unit_that_says_nothing_may_publish_nothing(world: World) -> None:
    """An empty list must not mean "everything" to the server."""
    silent, hub = await world.cloud("edgecontroller"), await world.cloud("cloudhub")
    heard: list[str] = []

    async def hear(push: wire.Push, place: Place[Any]) -> None:
        heard.append(place["node"])

    await hub.hear(c.SET_PUSH, hear)
    await silent.connection.publish(c.SET_PUSH.at(channel="devices", node="forged"), wire.encode(PUSH))
    await silent.connection.flush()
    await (await world.cloud("devicecontroller")).say(c.SET_PUSH, PUSH, channel="devices", node="honest")
    await until(lambda: heard)
    assert heard == ["honest"]

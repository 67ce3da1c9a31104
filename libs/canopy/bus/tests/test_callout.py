"""The line before the auth callout, with a connection of the test's and a clock that it moves."""

import asyncio
from types import SimpleNamespace

from canopy.bus import callout
from canopy.bus.callout import Callout
from canopy.testing.clock import FrozenClock


class Connection:
    connected = True

    def __init__(self):
        self.take, self.said, self.left = None, [], False

    async def subscribe(self, subject, take, queue):
        self.take = take
        return SimpleNamespace(unsubscribe=self.unsubscribe)

    async def unsubscribe(self):
        self.left = True

    async def answer(self, message, data):
        self.said.append(data)

    async def flush(self):
        pass


class World:
    def __init__(self, answer=lambda data: b"answer to " + data):
        self.connection, self.clock, self.late = Connection(), FrozenClock(), 0
        self.callout = Callout(self.connection, answer, self.clock, self.was_late)

    def was_late(self):
        self.late += 1

    async def ask(self, *requests, reply="r"):
        for data in requests:
            await self.callout._take(SimpleNamespace(data=data, reply=reply))

    async def run(self):
        task = asyncio.create_task(self.callout.run())
        await asyncio.sleep(0)
        return task


async def test_the_first_is_answered_first_and_who_cannot_be_answered_is_passed_over():
    def answer(data):
        if data == b"bug":
            raise KeyError(data)
        return None if data == b"nonsense" else data.upper()

    world = World(answer)
    await world.ask(b"a", b"bug", b"nonsense", b"b")
    await world.ask(b"no reply", reply="")
    await world.callout.answer_waiting()
    assert world.connection.said == [b"A", b"B"] and world.late == 0 and world.callout.waiting == 0


async def test_who_has_waited_so_long_that_the_hub_has_given_up_costs_nothing_more():
    world = World()
    await world.ask(b"old")
    await world.clock.advance(callout.WAIT_SECONDS + 0.1)
    await world.ask(b"new")
    await world.callout.answer_waiting()
    assert world.connection.said == [b"answer to new"] and world.late == 1


async def test_the_line_is_bounded_and_its_oldest_goes(monkeypatch):
    monkeypatch.setattr(callout, "MOST_WAITING", 3)
    world = World()
    await world.ask(b"1", b"2", b"3", b"4")
    assert world.callout.waiting == 3 and world.late == 1
    await world.callout.answer_waiting()
    assert world.connection.said[0] == b"answer to 2"


async def test_who_stops_leaves_the_group_first_and_then_answers_whom_it_has():
    world = World()
    task = await world.run()
    await world.ask(b"last")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert world.connection.left and world.connection.said == [b"answer to last"]

import asyncio

from canopy.edgehub.lanes import Lanes
from canopy.testing.wait import until


async def test_one_page_and_a_few_reports_at_once() -> None:
    made, inside, most = Lanes(2), {"report": 0, "page": 0}, {"report": 0, "page": 0}

    async def take(kind: str) -> None:
        async with made.report() if kind == "report" else made.page():
            inside[kind] += 1
            most[kind] = max(most[kind], inside[kind])
            await asyncio.sleep(0)
            inside[kind] -= 1

    await asyncio.gather(*(take(kind) for kind in ["report", "page"] * 10))
    assert most == {"report": 2, "page": 1} and inside == {"report": 0, "page": 0}


async def test_a_page_lets_waiting_reports_go_first_but_not_for_ever() -> None:
    made, order, go = Lanes(1, 0.05), list[str](), asyncio.Event()

    async def report(name: str) -> None:
        async with made.report():
            await go.wait()
            order.append(name)

    async def page() -> None:
        async with made.page():
            order.append("page")

    tasks = [asyncio.create_task(report("a")), asyncio.create_task(report("b"))]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(page()))
    await until(lambda: order == ["page"])
    go.set()
    await asyncio.gather(*tasks)
    order.clear()
    go.clear()
    tasks = [asyncio.create_task(report("a")), asyncio.create_task(report("b"))]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(page()))
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*tasks)
    assert order.index("page") > order.index("a")


async def test_one_who_gives_up_waiting_leaves_the_lane_free() -> None:
    made = Lanes(1)
    async with made.report():
        waiting = asyncio.create_task(made.report().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert made._none_waits.is_set()
    async with made.report(), made.page():
        pass

"""What the sender of states asks the cloud for, over a bus that keeps what was asked."""

import asyncio
import random
from typing import Any

import pytest

from canopy.contracts.wire import LinkState, ReportBatch, ReportResult, ReportResults
from canopy.devicetwin.device import Device
from canopy.devicetwin.reports import MOST_REPORTS, Reports
from canopy.devicetwin.shelf import Shelf, seal
from canopy.runtime.telemetry import Telemetry
from canopy.testing.clock import FrozenClock
from canopy.testing.wait import until


class Cloud:
    """Takes every batch; `sizes` are those that came."""

    telemetry = Telemetry("devicetwin", enabled=False)

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def ask(self, subject: Any, batch: ReportBatch, **more: Any) -> ReportResults:
        self.sizes.append(len(batch.reports))
        return ReportResults(results=[_ok(r.namespace, r.name, r.uid, r.revision) for r in batch.reports])


def _ok(namespace: str, name: str, uid: str, revision: int) -> ReportResult:
    digest = seal(Device(namespace, name, uid))[0].digest
    return ReportResult(namespace=namespace, name=name, uid=uid, revision=revision, digest=digest, outcome="ok")


@pytest.mark.parametrize(("told", "size"), [(20, 20), (MOST_REPORTS, 30), (5000, 30), (0, 1), (-3, 1)])
async def test_a_batch_holds_no_more_states_than_the_cloud_takes(told: int, size: int) -> None:
    rows = [seal(Device("default", f"d{i}", "u1", revision=1, acknowledged=False))[0] for i in range(30)]
    cloud, clock = Cloud(), FrozenClock()

    def put(event: Any) -> bool:
        event.then()
        return True

    sender = Reports(cloud, Shelf(rows), put, clock, random.Random(1), 1.0, 0.0)
    await sender.link(LinkState(up=True, reports_per_batch=told), None)
    sending = asyncio.create_task(sender.run())
    await until(lambda: cloud.sizes)
    sending.cancel()
    assert cloud.sizes[0] == size

"""The audit on its way into the stream: nothing waits for it, nothing is lost that its bound does not drop."""

import msgspec

from canopy.bus.outcome import AskTimeout
from canopy.contracts.identity_wire import AuditRecord
from canopy.runtime.audit import KEPT_RECORDS, AuditLog
from canopy.runtime.metrics import Metrics
from canopy.spire_integration.counts import Counts
from canopy.spire_integration.storing import Storing
from canopy.testing.clock import FrozenClock


class Stream:
    def __init__(self):
        self.away, self.ensured, self.stored = False, 0, {}

    async def ensure(self, **how):
        self.ensured += 1

    async def put(self, address, data, expect):
        if self.away:
            raise AskTimeout(address)
        self.stored[address] = msgspec.json.decode(data, type=AuditRecord)
        return len(self.stored)


def world():
    clock, stream, metrics = FrozenClock(), Stream(), Metrics()
    audit = AuditLog("spire_integration", clock)
    return audit, stream, metrics, Storing(stream, audit, clock, Counts.of(metrics))


async def test_what_waits_is_stored_many_at_once_under_its_address():
    audit, stream, _, storing = world()
    for number in range(200):
        audit.record("admission", who=f"spiffe://t/node/n{number}")
    assert await storing.store() and len(stream.stored) == 200 and audit.unsent == 0
    assert all(address.startswith("audit.cloud.spire_integration.") for address in stream.stored)
    assert stream.ensured == 1


async def test_while_the_stream_is_away_records_wait_within_their_bound_and_what_it_drops_is_counted():
    audit, stream, metrics, storing = world()
    stream.away = True
    for number in range(KEPT_RECORDS + 7):
        audit.record("admission", who=f"spiffe://t/node/n{number}")
    assert not await storing.store() and audit.unsent == KEPT_RECORDS and audit.dropped == 7
    assert 'failures_total{part="audit"}' in metrics.text()
    stream.away = False
    assert await storing.store() and len(stream.stored) == KEPT_RECORDS and stream.ensured == 2

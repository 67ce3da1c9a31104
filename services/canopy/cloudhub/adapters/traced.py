"""What the fleet API shows of traces: those whose every device the caller may see, and as many as are asked for."""

from canopy.cloudhub.adapters import bodies
from canopy.cloudhub.adapters.fleet import Fleet, Where, key_of
from canopy.cloudhub.adapters.problem import Problem
from canopy.cloudhub.traces import Trace, Traces, ordered
from canopy.contracts.wire import SpanRecord
from canopy.kube.api import Kube
from canopy.kube.errors import Forbidden, NotFound
from canopy.kube.resource import DEVICES, NODES

NS_PER_MS = 1e6
MOST_DEVICES = 20
"""Who asks for a trace that names more devices than this must be allowed to list them all."""


class Shown:
    """Every call takes the caller's own Kube, and raises what that raises, or Problem."""

    def __init__(self, fleet: Fleet, traces: Traces) -> None:
        self._fleet, self._traces = fleet, traces

    async def newest(self, kube: Kube, device: str, limit: int) -> bodies.Traces:
        """Those of one device, or of all that name a device."""
        where = _where(device)
        visible = {"/".join(key_of(d)) for d in await self._fleet.listed(kube, where)}
        found = []
        for trace in self._traces.newest():
            named = set(trace.devices)
            if (not device and named and named <= visible) or (
                device in named and await self._all(kube, named - visible)
            ):
                found.append(trace)
            if len(found) == limit:
                break
        return bodies.Traces(traces=[bodies.TraceSummary(**_summary(t)) for t in found])

    async def one(self, kube: Kube, trace_id: str) -> bodies.Trace:
        """A trace with its spans. One that names no device is for those who may list Nodes."""
        trace = self._traces.get(trace_id)
        if trace is not None and not trace.devices:
            await kube.list(NODES)
        if trace is None or not await self._all(kube, set(trace.devices)):
            raise Problem(404, f"{trace_id[:64]}: no such trace is kept; see GET /api/v1/traces", "trace_id")
        return bodies.Trace(**_summary(trace), tree=[_span(s) for s in ordered(trace)])

    async def _all(self, kube: Kube, devices: set[str]) -> bool:
        """Whether the caller may see all of these Devices."""
        if len(devices) > MOST_DEVICES:
            return devices <= {"/".join(key_of(d)) for d in await self._fleet.listed(kube, Where())}
        try:
            for device in sorted(devices):
                where = _where(device)
                await kube.get(DEVICES, where.namespace, where.name)
        except (NotFound, Forbidden):
            return False
        return True


def _where(device: str) -> Where:
    """Raises Problem, BadToken."""
    if not device:
        return Where()
    namespace, slash, name = device.partition("/")
    if not slash:
        raise Problem(400, f"device: {device[:80]!r} should be namespace/name", "device")
    where = Where(namespace, name)
    where.check()
    return where


def _summary(trace: Trace) -> dict[str, object]:
    return {
        "trace_id": trace.id,
        "devices": list(trace.devices),
        "start_ns": trace.start,
        "duration_ms": (trace.end - trace.start) / NS_PER_MS,
        "spans": len(trace.spans),
        "errors": trace.errors,
        "units": list(dict.fromkeys(s.unit for s in ordered(trace))),
    }


def _span(span: SpanRecord) -> bodies.Span:
    return bodies.Span(
        id=span.id,
        parent=span.parent,
        unit=span.unit,
        node=span.node,
        name=span.name,
        kind=span.kind,
        start_ns=span.start,
        duration_ms=(span.end - span.start) / NS_PER_MS,
        attributes=span.attributes,
        error=span.error,
    )

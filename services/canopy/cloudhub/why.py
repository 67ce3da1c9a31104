"""Why a device does not do what it should: facts in, a verdict out. Pure; `adapters/whys.py` gathers the facts.

The path is walked from Kubernetes to the device and back. Each step is ok, stops the way, or is not known; the first
that stops it is the answer. What lies beyond a cut is told as it was last known.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from canopy.cloudhub import why_edge, why_wishes
from canopy.cloudhub.steps import Facts, Step, ok, stop, unknown
from canopy.contracts.wire import UnitHealth


@dataclass(frozen=True, slots=True)
class Verdict:
    """`stops` is the first step that does; None where none does."""

    steps: tuple[Step, ...]
    stops: Step | None


def judge(facts: Facts) -> Verdict:
    """Walk the path."""
    first = kubernetes(facts)
    if facts.device is None:
        return Verdict((first,), first)
    to_the_device = tuple(_beyond_a_cut(walk(facts) for walk in _TO_THE_DEVICE))
    steps = (first, controller(facts), *to_the_device, why_wishes.status(facts))
    return Verdict(steps, next((step for step in steps if step.verdict == "stop"), None))


_TO_THE_DEVICE: tuple[Callable[[Facts], Step], ...] = (
    why_edge.link,
    why_edge.node,
    why_edge.devicetwin,
    why_edge.mapper,
    why_edge.device,
    why_wishes.wishes,
)
_CARRIERS = ("link", "node", "devicetwin", "mapper")
"""Steps that bring word of those behind them."""


def _beyond_a_cut(steps: Iterable[Step]) -> Iterator[Step]:
    """What lies behind a step that carries nothing now, as it was last known."""
    cut = False
    for step in steps:
        yield replace(step, verdict="unknown", text=f"last known: {step.text}", tries=()) if cut else step
        cut = cut or (step.name in _CARRIERS and step.verdict == "stop")


# --- Kubernetes -------------------------------------------------------------------------------------------------------
def kubernetes(facts: Facts) -> Step:
    """The Device, its model and its node as Kubernetes holds them."""
    name = "kubernetes"
    if facts.kube_error:
        text = f"Kubernetes does not answer CloudHub: {facts.kube_error}"
        return stop(name, text, tries=("kubectl get --raw /readyz", "the edges go on with what they hold meanwhile"))
    if facts.device is None:
        near = close(facts.name, facts.names)
        hint = f"; is it {' or '.join(near)}?" if near else ""
        text = f"there is no Device {facts.name} in the namespace {facts.namespace}{hint}"
        return stop(name, text, tries=(f"kubectl get devices -n {facts.namespace}", *_why(facts.namespace, near)))
    return _manifest(facts, name) or ok(
        name, f"Device (generation {facts.device.metadata.generation}), model {facts.model_name}, node {facts.on}"
    )


def _manifest(facts: Facts, name: str) -> Step | None:
    """What is wrong with the Device itself."""
    edit = f"kubectl edit device {facts.name} -n {facts.namespace}"
    if not facts.on:
        return stop(name, "spec.nodeName is empty: nothing says which node it hangs on", tries=(edit,))
    if not facts.model_name:
        return stop(name, "spec.deviceModelRef.name is empty: name a DeviceModel", tries=(edit,))
    if facts.model is None:
        near = close(facts.model_name, facts.models)
        hint = f"; is it {' or '.join(near)}?" if near else ""
        text = f"there is no DeviceModel {facts.model_name} in the namespace {facts.namespace}{hint}"
        look = f"kubectl get devicemodels -n {facts.namespace}"
        return stop(name, text, tries=(look, f"apply that model, or: {edit}"))
    return _properties(facts, name, edit)


def _properties(facts: Facts, name: str, edit: str) -> Step | None:
    """Properties of the Device that its model does not have: a mapper serves no such device."""
    known = {p.name for p in facts.model.spec.properties} if facts.model else set()
    strange = [p.name for p in facts.device.spec.properties if p.name not in known] if facts.device else []
    if not strange:
        return None
    text = f"spec.properties: DeviceModel {facts.model_name} has no property {', '.join(strange[:5])}"
    if facts.speaks_itself:
        return unknown(name, text)
    return stop(name, f"{text}; it has {', '.join(sorted(known)[:10]) or 'none'}", tries=(edit,))


def close(name: str, names: Iterable[str]) -> list[str]:
    """Up to three names that look like it."""
    return difflib.get_close_matches(name, list(names), 3, 0.6)


def _why(namespace: str, names: Iterable[str]) -> list[str]:
    return [f"canopy device why {namespace}/{near}" for near in list(names)[:1]]


# --- the cloud --------------------------------------------------------------------------------------------------------
def controller(facts: Facts) -> Step:
    """DeviceController: someone leads, and sees Kubernetes."""
    name, unit = "controller", "devicecontroller"
    found = [one for one in facts.cloud if one.unit == unit]
    if not found:
        return unknown(name, f"{unit} has not been heard since this CloudHub began")
    alive = [one for one in found if not one.silent_since]
    if not alive:
        since = max(one.silent_since for one in found)
        tries = (f"is its process up? canopy run {unit} (its log says why it ended)",)
        return stop(name, f"{unit} is silent: no device is pushed, no DeviceStatus written", since, tries)
    return _leader(name, unit, alive)


def _leader(name: str, unit: str, alive: list[UnitHealth]) -> Step:
    leaders = [one for one in alive if one.facts.get("leads") == "yes"]
    if not leaders:
        text = f"none of {len(alive)} {unit} leads: no device is pushed, no DeviceStatus written"
        tries = (
            "wait 15 s: a killed leader's Lease has to run out",
            "kubectl get lease canopy-devicecontroller -n kube-system",
        )
        return stop(name, text, tries=tries)
    sees = leaders[0].facts.get("kubernetes", "ok")
    if sees != "ok":
        tries = ("kubectl get --raw /readyz", f"has {unit} its rights? (its log)")
        return stop(name, f"{unit} cannot watch Kubernetes: {sees}", tries=tries)
    return ok(name, f"{unit} leads" + (f" ({len(alive)} replicas)" if len(alive) > 1 else ""))

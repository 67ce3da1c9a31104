"""Kubernetes as this unit sees it: five informers that write into a Replica. Only wiring; called by `unit.py`."""

from collections.abc import Callable
from typing import Any

from canopy.contracts.wire import Name
from canopy.devicecontroller.objects import DEVICE, MODEL, Seen, StatusSeen, read_device, read_model, read_status
from canopy.devicecontroller.replica import Replica
from canopy.kube.api import Kube
from canopy.kube.informer import Informer
from canopy.kube.resource import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, NODES


def informers(kube: Kube, replica: Replica) -> list[Informer[Any]]:
    """What is to be run to keep `replica` up to date."""
    found: list[Informer[Any]] = [
        _things(kube, replica, DEVICE),
        _things(kube, replica, MODEL),
    ]
    statuses: Informer[StatusSeen] = Informer(
        kube,
        DEVICE_STATUSES,
        read_status,
        on_change=lambda key, _, new: replica.status(key, new),
        on_revision=lambda: setattr(replica, "statuses_synced", True),
    )
    nodes: Informer[bool] = Informer(
        kube,
        NODES,
        lambda raw: True,
        on_change=lambda key, _, new: replica.node(key[1], new is not None),
        on_revision=lambda: setattr(replica, "nodes_synced", True),
    )
    return [*found, statuses, nodes]


def _things(kube: Kube, replica: Replica, kind: str) -> Informer[Seen]:
    read: Callable[[bytes], Seen] = read_device if kind == DEVICE else read_model

    def changed(key: Name, old: Seen | None, new: Seen | None) -> None:
        replica.changed(old, new)

    informer: Informer[Seen] = Informer(
        kube,
        DEVICES if kind == DEVICE else DEVICE_MODELS,
        read,
        on_change=changed,
        on_revision=lambda: replica.moved(kind, informer.revision),
    )
    return informer

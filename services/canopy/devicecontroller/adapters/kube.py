"""Kubernetes as this unit sees it: four informers that write into a Replica, and the write of a DeviceStatus."""

from collections.abc import Callable
from typing import Any

from canopy.contracts.devices import DEVICE, MODEL
from canopy.contracts.wire import Name
from canopy.devicecontroller import core
from canopy.devicecontroller.core import Write
from canopy.devicecontroller.objects import Seen, StatusSeen, read_device, read_model, read_status
from canopy.devicecontroller.replica import Replica
from canopy.kube.api import Kube
from canopy.kube.informer import Informer
from canopy.kube.resource import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, NODES
from canopy.runtime.letters import DeadLetters
from canopy.runtime.telemetry import Telemetry


def informers(
    kube: Kube, replica: Replica, namespace: str = "", letters: DeadLetters | None = None
) -> list[Informer[Any]]:
    """What is to be run to keep `replica` up to date; with a `namespace`, of that one alone."""
    found: list[Informer[Any]] = [
        _things(kube, replica, DEVICE, namespace, letters),
        _things(kube, replica, MODEL, namespace, letters),
    ]
    statuses: Informer[StatusSeen] = Informer(
        kube,
        DEVICE_STATUSES,
        read_status,
        namespace=namespace,
        on_change=lambda key, _, new: replica.status(key, new),
        on_revision=lambda: setattr(replica, "statuses_synced", True),
        letters=letters,
    )
    nodes: Informer[bool] = Informer(
        kube,
        NODES,
        lambda raw: True,
        on_change=lambda key, _, new: replica.node(key[1], new is not None),
        on_revision=lambda: setattr(replica, "nodes_synced", True),
        letters=letters,
    )
    return [*found, statuses, nodes]


def _things(kube: Kube, replica: Replica, kind: str, namespace: str, letters: DeadLetters | None) -> Informer[Seen]:
    read: Callable[[bytes], Seen] = read_device if kind == DEVICE else read_model

    def changed(key: Name, old: Seen | None, new: Seen | None) -> None:
        replica.changed(old, new)

    informer: Informer[Seen] = Informer(
        kube,
        DEVICES if kind == DEVICE else DEVICE_MODELS,
        read,
        namespace=namespace,
        on_change=changed,
        on_revision=lambda: replica.moved(kind, informer.revision),
        letters=letters,
    )
    return informer


class StatusStore:
    """Writes a DeviceStatus: one call in the steady state, one more for a new or an ownerless one."""

    def __init__(self, kube: Kube, telemetry: Telemetry) -> None:
        self._kube, self._telemetry = kube, telemetry

    async def write(self, write: Write) -> None:
        """In the traces of what it shows. Raises KubeError; Conflict if it is no longer what was read."""
        about = {"device": "/".join(write.name)}
        with self._telemetry.span_in_each("write DeviceStatus", write.trace, "client", about):
            await self._written(write)

    async def _written(self, write: Write) -> None:
        namespace, name = write.name
        version = write.resource_version or await self._created(write)
        if write.adopt:
            adopted = await self._kube.patch(DEVICE_STATUSES, namespace, name, core.adoption(write))
            version = read_status(adopted).resource_version
        body = core.status_patch(write, version)
        await self._kube.patch(DEVICE_STATUSES, namespace, name, body, subresource="status")

    async def _created(self, write: Write) -> str:
        created = await self._kube.create(DEVICE_STATUSES, write.name[0], core.new_status(write))
        return read_status(created).resource_version

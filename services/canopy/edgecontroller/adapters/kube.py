"""Kubernetes as this unit sees it: one informer of Nodes that writes into a Replica. Only wiring."""

from canopy.edgecontroller.bodies import read_node
from canopy.edgecontroller.core import NodeSeen
from canopy.edgecontroller.replica import Replica
from canopy.kube.api import Kube
from canopy.kube.informer import Informer
from canopy.kube.resource import NODES
from canopy.runtime.letters import DeadLetters


def informer(kube: Kube, replica: Replica, letters: DeadLetters | None = None) -> Informer[NodeSeen]:
    """What is to be run to keep `replica.nodes` up to date. Others' Nodes too: their names are taken."""
    return Informer(
        kube,
        NODES,
        read_node,
        on_change=lambda key, _, new: replica.node(key[1], new),
        on_revision=lambda: setattr(replica, "synced", True),
        letters=letters,
    )

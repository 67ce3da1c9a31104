"""What a cloud unit does first, in any start order: reach the cluster, and learn which one it is. Units call it."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from canopy.kube.api import Kube
from canopy.kube.client import NoCluster, connect
from canopy.kube.errors import KubeError
from canopy.kube.resource import NAMESPACES
from canopy.runtime.backoff import Backoff

FIRST_SECONDS, MOST_SECONDS = 0.2, 3.0

log = logging.getLogger("canopy.kube")
T = TypeVar("T")


class _Meta(msgspec.Struct):
    uid: str


class _Head(msgspec.Struct):
    metadata: _Meta


async def cluster(kubeconfig: str) -> Kube:
    """The cluster of a kubeconfig file, which may not be written yet; empty: of the pod. Close it at the end."""
    return await patiently(lambda: connect(Path(kubeconfig) if kubeconfig else None), NoCluster)


async def cluster_uid(kube: Kube) -> str:
    """What names a cluster: the uid of its namespace kube-system."""
    raw = await patiently(lambda: kube.get(NAMESPACES, "", "kube-system"), KubeError)
    return msgspec.json.decode(raw, type=_Head).metadata.uid


async def patiently(attempt: Callable[[], Awaitable[T]], expected: type[Exception]) -> T:
    """Try until it works; say so at first and then rarely."""
    backoff, tries = Backoff(FIRST_SECONDS, MOST_SECONDS, random.Random()), 0  # noqa: S311 - spreads attempts
    while True:
        try:
            return await attempt()
        except expected as error:
            tries += 1
            if tries in (3, 20) or tries % 200 == 0:
                log.warning("%s; trying on", error)
            await asyncio.sleep(backoff.next_seconds())

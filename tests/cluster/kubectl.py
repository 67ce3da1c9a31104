"""Stock kubectl, and what the stories ask of it: the cluster is seen only as an operator sees it."""

import asyncio
import codecs
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

CALL_SECONDS = 60.0
END_SECONDS = 150.0
"""A pod of the hub may take a minute to end."""
CLOUD, EDGE, AGENTS = "canopy", "canopy-edge", "canopy-spire"
"""The namespaces of the overlay."""

Json = dict[str, Any]


class Refused(AssertionError):
    """kubectl said no; the text is its own."""


async def kubectl(*words: str, stdin: str = "", seconds: float = CALL_SECONDS) -> str:
    """Its output. The cluster is KUBECONFIG's. Raises Refused, TimeoutError."""
    process = await asyncio.create_subprocess_exec("kubectl", *words, stdin=-1, stdout=-1, stderr=-1, env=os.environ)
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        process.kill()
        raise TimeoutError(f"kubectl {' '.join(words)} did not end within {seconds:g} s") from None
    if process.returncode:
        raise Refused(f"kubectl {' '.join(words)}: {err.decode().strip() or out.decode().strip()}")
    return out.decode()


async def got(*words: str) -> Json:
    """`kubectl get ... -o json`."""
    found: Json = json.loads(await kubectl("get", *words, "-o", "json"))
    return found


async def items(*words: str) -> list[Json]:
    """The objects of `kubectl get ...`."""
    found: list[Json] = (await got(*words))["items"]
    return found


async def apply(*documents: Json) -> None:
    """`kubectl apply` of these objects."""
    await kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))


async def patch(kind: str, name: str, change: Json, namespace: str = "default") -> None:
    """A merge patch."""
    await kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(change))


async def inside(pod: str, program: str, *words: str, namespace: str = CLOUD, container: str = "") -> str:
    """What a Python program prints in a pod."""
    which = ("-c", container) if container else ()
    return await kubectl("exec", "-n", namespace, pod, *which, "--", "python3", "-c", program, *words)


async def pods(selector: str = "", namespace: str = CLOUD) -> list[Json]:
    """The pods that are not on their way out."""
    chosen = ("-l", selector) if selector else ()
    return [p for p in await items("pods", "-n", namespace, *chosen) if not p["metadata"].get("deletionTimestamp")]


async def delete_pod(name: str, namespace: str) -> None:
    """Delete it, and wait until it is gone."""
    await kubectl("delete", "pod", "-n", namespace, name, seconds=END_SECONDS)


def ready(pod: Json) -> bool:
    """Whether Kubernetes calls the pod Ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def named(pod: Json) -> str:
    name: str = pod["metadata"]["name"]
    return name


def unit_of(pod: Json) -> str:
    """The label by which Services and policies know it."""
    name: str = pod["metadata"]["labels"]["app.kubernetes.io/name"]
    return name


def sleeper(
    name: str, node: str, image: str, user: int, folder: tuple[str, str], env: Mapping[str, str] | None = None
) -> Json:
    """A pod of `default` on `node` in which commands may be run, with a folder of the node (there, here)."""
    there, here = folder
    container = {
        "name": "sleeper",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["sleep", "3600"],
        "env": [{"name": variable, "value": value} for variable, value in (env or {}).items()],
        "securityContext": {"runAsUser": user, "runAsGroup": user},
        "volumeMounts": [{"name": "folder", "mountPath": here}],
    }
    spec = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "folder", "hostPath": {"path": there}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


@contextlib.asynccontextmanager
async def changes(*words: str) -> AsyncIterator[asyncio.Queue[Json]]:
    """Every change of `kubectl get ... --watch` as it comes, none left out: {"type", "object"}."""
    command = ("kubectl", "get", *words, "--watch", "--output-watch-events", "-o", "json")
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1, env=os.environ)
    queue: asyncio.Queue[Json] = asyncio.Queue()
    reading = asyncio.create_task(_read(process, queue))
    try:
        yield queue
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(process: asyncio.subprocess.Process, queue: asyncio.Queue[Json]) -> None:
    assert process.stdout is not None
    text, letters, decoder = "", codecs.getincrementaldecoder("utf-8")(), json.JSONDecoder()
    while piece := await process.stdout.read(65536):
        text = (text + letters.decode(piece)).lstrip()
        while text:
            try:
                change, end = decoder.raw_decode(text)
            except ValueError:
                break  # the rest of it comes
            queue.put_nowait(change)
            text = text[end:].lstrip()

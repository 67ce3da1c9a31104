"""What the demo asks of a cluster before it comes."""

import json
from pathlib import Path
from typing import Any

import pytest

from canopy.cli.failure import NO_CONNECTION, Failure
from canopy.cli.guest import Guest
from canopy.cli.rights import missing
from canopy.kube.errors import KubeError, Unauthorized, Unavailable


class Asked:
    """Answers access reviews; every other call fails with `error`."""

    def __init__(self, refused: set[tuple[str, str]], error: KubeError | None = None) -> None:
        self._refused, self._error = refused, error

    async def create(self, resource: Any, namespace: str, body: bytes) -> bytes:
        if self._error:
            raise self._error
        about = json.loads(body)["spec"]["resourceAttributes"]
        kind = about["resource"] + (f"/{about['subresource']}" if "subresource" in about else "")
        return json.dumps({"status": {"allowed": (about["verb"], kind) not in self._refused}}).encode()


async def test_the_rights_that_are_missing_are_named() -> None:
    asked: Any = Asked({("patch", "nodes/status"), ("create", "namespaces"), ("delete", "namespaces")})
    assert await missing(asked) == ["create, delete namespaces", "patch nodes/status"]
    everything: Any = Asked(set())
    assert await missing(everything) == []


def _guest(kube: Any) -> Guest:
    return Guest(kube, "https://them", Path("k"), "--kubeconfig theirs --context x", lambda text: None)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 1, "you may not do what the demo needs: create namespaces. Name a context that may"),
        (Unavailable("refused"), NO_CONNECTION, "https://them cannot be reached.*Try: kubectl --kubeconfig theirs"),
        (Unauthorized("Unauthorized", 401), 1, "does not take the credentials.*renew them"),
    ],
)
async def test_why_the_demo_cannot_come_is_said_with_what_to_do(error: KubeError | None, code: int, said: str) -> None:
    with pytest.raises(Failure, match=said) as raised:
        await _guest(Asked({("create", "namespaces")}, error)).look()
    assert raised.value.code == code


def test_a_wrong_kubeconfig_and_a_context_without_one_are_wrong_usage(canopy: Any, tmp_path: Path) -> None:
    wrong = canopy("demo", "--once", "--kubeconfig", "nothing")
    assert wrong.code == 2 and "--kubeconfig: there is no kubeconfig nothing" in wrong.err
    (tmp_path / "config").write_text("{contexts: [{name: a, context: {cluster: c}}]}")
    context = canopy("demo", "--once", "--kubeconfig", "config", "--context", "b")
    assert context.code == 2 and "has no context 'b'; it has a" in context.err
    alone = canopy("demo", "--once", "--context", "b")
    assert alone.code == 2 and "--context b needs --kubeconfig FILE" in alone.err

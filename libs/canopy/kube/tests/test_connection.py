"""What a kubeconfig or a pod says reaches the server: certificates, names, tokens that are renewed. Loopback only."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from canopy.kube.client import connect
from canopy.kube.connection import HOST_VARIABLE, PORT_VARIABLE, TOKEN_SECONDS, Pod, open_connection
from canopy.kube.errors import Unavailable
from canopy.kube.kubeconfig import NoCluster, read
from canopy.kube.patient import cluster_if_any
from canopy.kube.resource import NODES
from canopy.kubeserve import certificates

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[dict[str, Any]]]]:
    """A port, and what was asked there: `authorization` of each request, the client's `certificate`."""
    asked: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        token = next((line.partition(": ")[2] for line in head if line.startswith("authorization:")), "")
        asked.append({"authorization": token, "certificate": writer.get_extra_info("peercert")})
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    named = {"clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}]}
    contexts = [{"name": "one", "context": {"cluster": "c", "user": "u"}}]
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text(json.dumps(named | {"contexts": contexts, "current-context": "one"}))
    return folder / "config"


async def ask(config: Path | None, **more: Any) -> None:
    kube = await connect(config, **more)
    try:
        await kube.get(NODES, "", "n")
    finally:
        await kube.close()


@pytest.mark.parametrize("how", ["files beside it", "data"])
async def test_authority_and_name_are_those_of_the_kubeconfig(tmp_path: Path, how: str) -> None:
    (tmp_path / "pki").mkdir()
    tls, file = certificates.tls(tmp_path / "pki", ("cluster.local",))
    authority = file.read_bytes()
    given = (
        {"certificate-authority": "../pki/ca.crt"}
        if how == "files beside it"
        else {"certificate-authority-data": base64.b64encode(authority).decode()}
    )
    async with listening(tls) as (port, asked):
        cluster = {"server": f"https://127.0.0.1:{port}", "tls-server-name": "cluster.local", **given}
        await ask(kubeconfig(tmp_path / "x", cluster, {"token": "t"}))
        assert [one["authorization"] for one in asked] == ["bearer t"]
        with pytest.raises(Unavailable, match="certificate"):
            await ask(kubeconfig(tmp_path / "y", {**cluster, "tls-server-name": "other"}, {"token": "t"}))
        with pytest.raises(Unavailable, match="certificate"):
            await ask(kubeconfig(tmp_path / "z", {"server": cluster["server"]}, {"token": "t"}))
        await ask(
            kubeconfig(tmp_path / "w", {"server": cluster["server"], "insecure-skip-tls-verify": True}, {"token": "t"})
        )


@pytest.mark.parametrize("how", ["files beside it", "data"])
async def test_a_client_certificate_is_shown(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("pki", "me"):
        (tmp_path / name).mkdir()
    tls, authority = certificates.tls(tmp_path / "pki", ("127.0.0.1",))
    _, me = certificates.tls(tmp_path / "me", ())  # a certificate that signed itself, with ca.key beside it
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(me)
    user = {"client-certificate": "../me/ca.crt", "client-key": str(tmp_path / "me/ca.key")}
    if how == "data":
        files = {"client-certificate": me, "client-key": tmp_path / "me/ca.key"}
        user = {f"{key}-data": base64.b64encode(file.read_bytes()).decode() for key, file in files.items()}
    async with listening(tls) as (port, asked):
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)}
        await ask(kubeconfig(tmp_path / "x", cluster, user))
        assert [bool(one["certificate"]) for one in asked] == [True]
        with pytest.raises(Unavailable):
            await ask(kubeconfig(tmp_path / "x", cluster, {}))
    assert list(tmp_path.glob("canopy-kube-*")) == [], "no key is left behind"  # noqa: ASYNC240


async def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    now = 0.0
    async with listening() as (port, _):
        path = kubeconfig(tmp_path / "x", {"server": f"http://127.0.0.1:{port}"}, {"tokenFile": "token"})
        (tmp_path / "x/token").write_text("first\n")
        connection = await open_connection(path, monotonic=lambda: now)
        assert await connection.credentials() == {"authorization": "Bearer first"}
        (tmp_path / "x/token").write_text("second\n")
        assert await connection.credentials() == {"authorization": "Bearer first"}
        now = TOKEN_SECONDS
        assert await connection.credentials() == {"authorization": "Bearer second"}
        (tmp_path / "x/token").unlink()
        now *= 2
        with pytest.raises(NoCluster, match="token"):
            await connection.credentials()
        await connection.close()


async def test_a_pod_speaks_with_its_service_account_and_its_token_is_renewed(tmp_path: Path) -> None:
    account, now = tmp_path / "account", 0.0
    account.mkdir()
    tls, authority = certificates.tls(tmp_path, ("127.0.0.1",))
    (account / "ca.crt").write_bytes(authority.read_bytes())
    (account / "token").write_text("first")
    async with listening(tls) as (port, asked):
        pod = Pod(account, {HOST_VARIABLE: "127.0.0.1", PORT_VARIABLE: str(port)})
        await ask(None, pod=pod)
        assert [one["authorization"] for one in asked] == ["bearer first"]
        connection = await open_connection(None, pod=pod, monotonic=lambda: now)
        await connection.credentials()
        (account / "token").write_text("second")
        now = TOKEN_SECONDS
        assert await connection.credentials() == {"authorization": "Bearer second"}
        await connection.close()


async def test_who_can_do_without_a_cluster_has_one_in_a_pod_only(tmp_path: Path) -> None:
    environ = {HOST_VARIABLE: "127.0.0.1", PORT_VARIABLE: "1"}
    assert await cluster_if_any("", Pod(tmp_path, environ)) is None
    assert Pod(tmp_path, environ).url == "https://127.0.0.1:1"
    certificates.tls(tmp_path, ())
    (tmp_path / "token").write_text("t")
    kube = await cluster_if_any("", Pod(tmp_path, environ))
    assert kube is not None
    await kube.close()


async def test_elsewhere_than_in_a_pod_a_kubeconfig_must_be_named(tmp_path: Path) -> None:
    for pod in (Pod(tmp_path, {}), Pod(tmp_path, {HOST_VARIABLE: "10.0.0.1"})):
        assert not pod
        with pytest.raises(NoCluster, match="name a kubeconfig file"):
            await connect(None, pod=pod)
    assert Pod(tmp_path, {HOST_VARIABLE: "fd00::1", PORT_VARIABLE: "443"}).url == "https://[fd00::1]:443"


async def test_an_exec_plugin_is_asked_for_the_token_and_again_when_it_ends(tmp_path: Path) -> None:
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    status = '{"token": "%d", "expirationTimestamp": "2020-01-01T00:00:00Z"}'
    body = json.dumps({**credential, "status": 0}).replace(": 0}", f": {status}}}")
    script = f"echo >> {tmp_path}/calls; printf '{body}' $(wc -l < {tmp_path}/calls)"
    plugin = {"apiVersion": credential["apiVersion"], "command": "sh", "args": ["-c", script]}
    connection = await open_connection(kubeconfig(tmp_path / "x", {"server": "http://x"}, {"exec": plugin}))
    first, second = await connection.credentials(), await connection.credentials()
    assert int(first["authorization"].split()[1]) < int(second["authorization"].split()[1])
    await connection.close()
    with pytest.raises(NoCluster, match="'false' gave no credentials"):
        await connect(kubeconfig(tmp_path / "x", {"server": "http://x"}, {"exec": {**plugin, "command": "false"}}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not YAML"),
        ("hello", "no `contexts`"),
        ("contexts: [3]", "should be a list"),
        ("contexts: [{name: a, context: {}}]", "no current-context.*it has a"),
        ("{contexts: [{name: a, context: {cluster: c}}], current-context: b}", "no context 'b'; it has a"),
        ("{contexts: [{name: a, context: {cluster: c}}], current-context: a}", "means cluster 'c', which is not there"),
        ("{contexts: [{name: a, context: {cluster: c}}], current-context: a, clusters: [{name: c, cluster: {}}]}",
         "has no `server`"),
    ],
)  # fmt: skip
def test_a_wrong_kubeconfig_is_named_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(NoCluster, match=said):
        read(tmp_path / "config")


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match=r"there is no kubeconfig .*missing"):
        read(tmp_path / "missing")
    with pytest.raises(NoCluster, match="cannot be read"):
        read(tmp_path)

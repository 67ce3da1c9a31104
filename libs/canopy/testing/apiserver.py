"""A real kube-apiserver with etcd, and the controllers that delete what nobody owns: what kubeserve is compared with.

`make conformance` starts it round pytest, `python -m canopy.testing.apiserver --programs FOLDER -- COMMAND`; the folder
is what tests/cluster/build.sh built. Nodes, a scheduler and pods that run it has not. Linux and macOS.
"""

import argparse
import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from canopy.contracts.crds import crds
from canopy.kubeserve import certificates
from canopy.testing.child import HOST, child, end, free_port
from canopy.testing.clients import Client, Refused

READY_SECONDS = 90.0
STOP_SECONDS = 15.0
LOOK_SECONDS = 0.05
NAMESPACES = ("default", "kube-system", "kube-node-lease")
CONTROLLERS = "garbage-collector-controller,namespace-controller,serviceaccount-controller"
OWN_CLUSTER = "CANOPY_TEST_OWN_KUBECONFIG"
"""In the environment of the command: the kubeconfig of a cluster in which tests may delete everything."""

Options = Mapping[str, object]


class NoKubernetes(RuntimeError):
    """It is not built, or did not come up; the text says what to do, or what the log says."""


class RealKubernetes:
    """One API server, empty but for our CRDs. `async with RealKubernetes(directory, programs) as kubernetes:`.

    `directory` holds all that it keeps; `programs` is a folder with etcd, kube-apiserver and kube-controller-manager.
    Inside the block `url`, `token` (of an admin) and `kubeconfig` are valid.
    """

    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory, self._programs = directory.absolute(), programs
        self.kubeconfig = self.directory / "kubeconfig"
        self.token = secrets.token_urlsafe(24)
        self.url = f"https://{HOST}:{free_port()}"
        self._etcd = f"http://{HOST}:{free_port()}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    async def __aenter__(self) -> "RealKubernetes":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """All of it, in order. Raises NoKubernetes."""
        self._furnish()
        self._spawn("etcd", self._etcd_options())
        self._spawn("kube-apiserver", self._apiserver_options())
        async with self._client() as api:
            await self._until(lambda: _ready(api), "kube-apiserver")
            for crd in crds():
                await api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
            await self._until(lambda: _served(api), "kube-apiserver")
            # After our kinds are there: the garbage collector looks for new ones only every 30 s.
            self._spawn("kube-controller-manager", self._manager_options())
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            await self._until(lambda: _there(api, account), "kube-controller-manager")

    async def stop(self) -> None:
        """SIGTERM, last started first; SIGKILL for what does not end in time."""
        while self._running:
            _, process = self._running.popitem()
            await end(process, signal.SIGTERM, STOP_SECONDS)

    # --- what they are told -------------------------------------------------------------------------------------------
    def _furnish(self) -> None:
        """Certificates, the token, the kubeconfig; all 0600."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        certificates.tls(self.directory, (HOST, "localhost"))
        certificates.write_kubeconfig(self.kubeconfig, self.url, self.directory / "ca.crt", self.token)
        line = f'{self.token},admin,admin,"system:masters"\n'
        certificates.write_private(self.directory / "tokens.csv", line.encode())
        private, public = _key_pair()
        certificates.write_private(self.directory / "accounts.key", private)
        certificates.write_private(self.directory / "accounts.pub", public)

    def _etcd_options(self) -> Options:
        peers = f"http://{HOST}:{free_port()}"
        own = {"listen-client-urls": self._etcd, "advertise-client-urls": self._etcd, "listen-peer-urls": peers}
        whole = {"initial-advertise-peer-urls": peers, "initial-cluster": f"one={peers}", "unsafe-no-fsync": "true"}
        return {"name": "one", "data-dir": self.directory / "etcd", **own, **whole}

    def _apiserver_options(self) -> Options:
        at = self.directory
        return {
            "etcd-servers": self._etcd,
            "bind-address": HOST,
            "secure-port": self.url.rpartition(":")[2],
            "endpoint-reconciler-type": "none",  # there is no cluster that must find us
            "tls-cert-file": at / "server.crt",
            "tls-private-key-file": at / "server.key",
            "token-auth-file": at / "tokens.csv",
            "anonymous-auth": "false",
            "authorization-mode": "Node,RBAC",
            "service-cluster-ip-range": "10.96.0.0/24",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": at / "accounts.pub",
            "service-account-signing-key-file": at / "accounts.key",
        }

    def _manager_options(self) -> Options:
        return {
            "kubeconfig": self.kubeconfig,
            "controllers": CONTROLLERS,
            "leader-elect": "false",
            "bind-address": HOST,
            "secure-port": free_port(),
            "cert-dir": self.directory / "manager",
            "authentication-skip-lookup": "true",
        }

    # --- processes ----------------------------------------------------------------------------------------------------
    def _spawn(self, name: str, options: Options) -> None:
        program = self._programs / name
        if not program.exists():
            raise NoKubernetes(f"no {program}: tests/cluster/build.sh builds it, once")
        words = [f"--{option}={value}" for option, value in options.items()]
        with self._log(name).open("ab") as log:
            self._running[name] = child([str(program), *words], os.environ, log.fileno())

    async def _until(self, so: Callable[[], Any], name: str) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await so():
                    self._check()
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise NoKubernetes(f"{name} is not ready after {READY_SECONDS:g} s:\n{self._end(name)}") from None

    def _check(self) -> None:
        for name, process in self._running.items():
            if process.poll() is not None:
                raise NoKubernetes(f"{name} ended with {process.returncode}:\n{self._end(name)}")

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _end(self, name: str) -> str:
        return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-15:])

    def _client(self) -> Client:
        return Client(self.url, self.token, self.directory / "ca.crt")


def _key_pair() -> tuple[bytes, bytes]:
    """PEM of a private key, and of its public one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private, key.public_key().public_bytes(serialization.Encoding.PEM, form)


async def _ready(api: Client) -> bool:
    try:
        if (await api.http.get("/readyz")).status_code != 200:
            return False
    except httpx.TransportError:
        return False
    return all([await _there(api, f"/api/v1/namespaces/{name}") for name in NAMESPACES])


async def _served(api: Client) -> bool:
    plurals = [crd["spec"]["names"]["plural"] for crd in crds()]
    group = crds()[0]["spec"]["group"]
    version = crds()[0]["spec"]["versions"][0]["name"]
    return all([await _there(api, f"/apis/{group}/{version}/{plural}") for plural in plurals])


async def _there(api: Client, path: str) -> bool:
    try:
        await api.call("GET", path)
    except Refused as error:
        if error.status in (403, 404, 429):  # not yet
            return False
        raise
    return True


# --- round a command --------------------------------------------------------------------------------------------------
async def _round(programs: Path, directory: Path, command: Sequence[str]) -> int:
    began = time.monotonic()
    async with RealKubernetes(directory, programs) as kubernetes:
        sys.stderr.write(f"== a real kube-apiserver, ready after {time.monotonic() - began:.1f} s\n")
        own = {OWN_CLUSTER: str(kubernetes.kubeconfig), "CANOPY_TEST_KUBECONFIG": str(kubernetes.kubeconfig)}
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **own})
        return await process.wait()


def main(words: Sequence[str] | None = None) -> int:
    """The exit code of the command; 1 with a line in words when Kubernetes does not come up."""
    parser = argparse.ArgumentParser(
        "canopy.testing.apiserver", description="Run a command beside a real kube-apiserver."
    )
    parser.add_argument("--programs", type=Path, required=True, help="what tests/cluster/build.sh printed")
    parser.add_argument("command", nargs="+", help="for instance: -- pytest -m conformance")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="canopy-apiserver-") as folder:
        try:
            return asyncio.run(_round(given.programs, Path(folder), given.command))
        except NoKubernetes as error:
            sys.stderr.write(f"{error}\n")
            return 1


if __name__ == "__main__":
    sys.exit(main())

"""A real kube-apiserver with etcd and the controllers that delete what nobody owns, in containers of a run.

The program is what tests/cluster/build.sh built; it becomes an image by itself. Every cloud unit speaks as the
ServiceAccount and with the rights that deploy/k8s gives it. CANOPY_E2E_KUBECONFIG names another cluster instead: then
the units act as its user, and it must be reachable from containers under the same address.
"""

import asyncio
import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from boxes import Run
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from specs import Spec

from canopy.contracts.crds import crds
from canopy.contracts.roles import CLOUD_UNITS
from canopy.kubeserve import certificates
from canopy.testing.child import free_port
from canopy.testing.clients import KubeClient, Refused
from canopy.testing.wait import until

ROOT = Path(__file__).parents[2]
RBAC = ROOT / "deploy" / "k8s" / "base"
CLOUD_NAMESPACE = "canopy"
GIVEN = "CANOPY_E2E_KUBECONFIG"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
CONTROLLERS = "garbage-collector-controller,namespace-controller,serviceaccount-controller"
PKI = "/etc/canopy"
APIS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}


class ClusterBox:
    """`kubeconfig` is an admin's, from this machine; `folder_of(unit)` holds that of a unit in its container."""

    def __init__(self, run: Run, programs: Path | None) -> None:
        self._run, self._programs = run, programs
        self._pki, self._port = run.folder("kubernetes"), free_port()
        self.kubeconfig = Path(os.environ[GIVEN]) if GIVEN in os.environ else self._pki / "admin.kubeconfig"
        self.image = ""
        self._tokens = {unit: secrets.token_urlsafe(18) for unit in ("admin", *CLOUD_UNITS)}

    async def start(self) -> None:
        """Up, with our CRDs and the rights of the units."""
        if GIVEN not in os.environ:
            self._furnish()
            self.image = await asyncio.to_thread(self._built)
            for spec in (self._etcd(), self._apiserver()):
                await self._run.box(spec).start()
        async with KubeClient(self.kubeconfig) as kube:
            await until(lambda: _can_make(kube), 60)
            for crd in crds():
                await _create(kube, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
            await self._rights(kube)
        if GIVEN not in os.environ:  # after our kinds are there: it looks for new ones every 30 s only
            await self._run.box(self._manager()).start()

    def folder_of(self, unit: str) -> Path:
        folder = self._run.folder(f"kubernetes-{unit}")
        if GIVEN in os.environ:
            shutil.copy(self.kubeconfig, folder / "kubeconfig")
        else:
            url = "https://kube-apiserver:6443"
            certificates.write_kubeconfig(folder / "kubeconfig", url, self._pki / "ca.crt", self._tokens[unit])
        (folder / "kubeconfig").chmod(0o644)
        return folder

    @property
    def token(self) -> str:
        """An admin's, for the fleet API, which hands it on."""
        if GIVEN in os.environ:
            user: dict[str, Any] = yaml.safe_load(self.kubeconfig.read_text())["users"][0]["user"]
            return str(user["token"])
        return self._tokens["admin"]

    # --- rights -------------------------------------------------------------------------------------------------------
    async def _rights(self, kube: KubeClient) -> None:
        await _create(kube, APIS["Namespace"], {"metadata": {"name": CLOUD_NAMESPACE}})
        for unit in CLOUD_UNITS:
            for one in filter(None, yaml.safe_load_all((RBAC / unit / "rbac.yaml").read_text())):
                await _create(kube, APIS[one["kind"]].format(**{"namespace": "", **one["metadata"]}), one)

    # --- what they are told -------------------------------------------------------------------------------------------
    def _furnish(self) -> None:
        certificates.tls(self._pki, ("kube-apiserver", "localhost", "127.0.0.1"))
        url = f"https://127.0.0.1:{self._port}"
        certificates.write_kubeconfig(self.kubeconfig, url, self._pki / "ca.crt", self._tokens["admin"])
        inside = self._pki / "manager.kubeconfig"
        certificates.write_kubeconfig(
            inside, "https://kube-apiserver:6443", self._pki / "ca.crt", self._tokens["admin"]
        )
        lines = [f'{self._tokens["admin"]},admin,admin,"system:masters"']
        for unit in CLOUD_UNITS:
            groups = f"system:serviceaccounts,system:serviceaccounts:{CLOUD_NAMESPACE}"
            lines.append(f'{self._tokens[unit]},system:serviceaccount:{CLOUD_NAMESPACE}:{unit},{unit},"{groups}"')
        (self._pki / "tokens.csv").write_text("\n".join(lines) + "\n")
        private, public = _key_pair()
        (self._pki / "accounts.key").write_bytes(private)
        (self._pki / "accounts.pub").write_bytes(public)
        for file in self._pki.iterdir():
            file.chmod(0o644)  # other users in containers read them; the folder above is ours alone

    def _etcd(self) -> Spec:
        own = "http://etcd:2379"
        options = {
            "name": "one",
            "data-dir": "/tmp/etcd",
            "listen-client-urls": "http://0.0.0.0:2379",
            "advertise-client-urls": own,
            "unsafe-no-fsync": "true",
            "watch-progress-notify-interval": "5s",  # as kubeadm and the clouds have it
        }
        return self._spec("etcd", options)

    def _apiserver(self) -> Spec:
        options = {
            "etcd-servers": "http://etcd:2379",
            "secure-port": "6443",
            "endpoint-reconciler-type": "none",
            "tls-cert-file": f"{PKI}/server.crt",
            "tls-private-key-file": f"{PKI}/server.key",
            "token-auth-file": f"{PKI}/tokens.csv",
            "authorization-mode": "Node,RBAC",
            "service-cluster-ip-range": "10.96.0.0/24",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": f"{PKI}/accounts.pub",
            "service-account-signing-key-file": f"{PKI}/accounts.key",
        }
        health = f"https://127.0.0.1:{self._port}/readyz"
        return self._spec("kube-apiserver", options, {6443: self._port}, health, "1g")

    def _manager(self) -> Spec:
        options = {
            "kubeconfig": f"{PKI}/manager.kubeconfig",
            "controllers": CONTROLLERS,
            "leader-elect": "false",
            "cert-dir": "/tmp/manager",
            "authentication-skip-lookup": "true",
        }
        return self._spec("kube-controller-manager", options)

    def _spec(
        self,
        name: str,
        options: Mapping[str, str],
        ports: Mapping[int, int] | None = None,
        health: str = "",
        memory: str = "1g",
    ) -> Spec:
        words = tuple(f"--{option}={value}" for option, value in options.items())
        return Spec(
            name,
            self.image,
            entrypoint=(f"/{name}", *words),
            ports=ports or {},
            mounts={self._pki: PKI},
            networks=("cloud",),
            health=health,
            memory=memory,
            tmp="512m",  # etcd's log alone takes 64 MB at once
        )

    def _built(self) -> str:
        """The program as an image by itself, under all its names; it goes with the run."""
        if self._programs is None:
            raise RuntimeError(f"no kube-apiserver: tests/cluster/build.sh builds it once, or {GIVEN} names a cluster")
        name, archive = f"canopy/e2e-kubernetes:{self._run.id}", self._run.directory / "kubernetes.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(self._programs / "program", "program")
            for program in PROGRAMS:
                link = tarfile.TarInfo(program)
                link.type, link.linkname = tarfile.SYMTYPE, "program"
                tar.addfile(link)
            folder = tarfile.TarInfo("tmp")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(folder, io.BytesIO())
        labels = [f'LABEL {key}="{value}"' for key, value in self._run.labels.items()]
        repository = name.partition(":")[0]
        self._run.client.api.import_image(str(archive), repository=repository, tag=self._run.id, changes=labels)
        archive.unlink()
        return name


async def _can_make(kube: KubeClient) -> bool:
    """It answers, and has made its own first namespaces."""
    return all([await kube.get("Namespace", name) for name in ("default", "kube-system", "kube-node-lease")])


async def _create(kube: KubeClient, path: str, body: dict[str, Any]) -> None:
    try:
        await kube.call("POST", path, body)
    except Refused as e:
        if e.status != 409:  # another cluster may hold it already
            raise


def _key_pair() -> tuple[bytes, bytes]:
    """PEM of a private key, and of its public one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain, form = serialization.NoEncryption(), serialization.PublicFormat.SubjectPublicKeyInfo
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    return private, key.public_key().public_bytes(serialization.Encoding.PEM, form)

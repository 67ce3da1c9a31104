"""Opens the way to a cluster: who we are and whom we trust, from a kubeconfig or from the pod that this runs in.

kubernetes.aio's configuration and connection pool carry it. A token that lies in a file (a pod's, a `tokenFile`) or
comes from an exec plugin is renewed while the connection stays open. `client.connect` and the test clients call it.
"""

import os
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.kube_config import load_kube_config_from_dict

from canopy.kube import kubeconfig as kubeconfigs
from canopy.kube.kubeconfig import NoCluster

TOKEN_SECONDS = 30.0
"""A token file is read again after this: the kubelet renews a pod's token long before its end."""
HOST_VARIABLE, PORT_VARIABLE = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"

Renew = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pod:
    """What a pod gives to those who run in it: its service account's folder, and its environment."""

    folder: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def __bool__(self) -> bool:
        """Whether this is a pod that may speak to its cluster."""
        return bool(self.environ.get(HOST_VARIABLE)) and (self.folder / "token").is_file()

    @property
    def url(self) -> str:
        host, port = self.environ[HOST_VARIABLE], self.environ.get(PORT_VARIABLE) or "443"
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


class Connection:
    """The pool, shared by all identities of one cluster."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        configuration = api.configuration
        self.host: str = configuration.host
        self.server_name: str = configuration.tls_server_name or ""
        self.proxy: str = configuration.proxy or ""
        self.extra: dict[str, Any] = {}
        if self.server_name:
            self.extra["server_hostname"] = self.server_name
        if self.proxy:
            self.extra["proxy"] = self.proxy

    @property
    def tls(self) -> ssl.SSLContext:
        """Whom we trust, and our certificate if there is one."""
        context: ssl.SSLContext = self._api.rest_client.ssl_context
        return context

    def session(self) -> aiohttp.ClientSession:
        """ApiClient's own session: its CA, client certificate and limits."""
        rest = self._api.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()
        session: aiohttp.ClientSession = rest.pool_manager
        return session

    async def credentials(self) -> dict[str, str]:
        """The header of the configured identity, renewed where it can be. Raises NoCluster where it no longer can."""
        headers: dict[str, str] = {}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], "", "", None)
        return headers

    async def close(self) -> None:
        await self._api.close()


async def open_connection(
    kubeconfig: Path | None,
    context: str = "",
    *,
    pod: Pod | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Connection:
    """The cluster of a context (empty: the current one) of a kubeconfig file, or (None) of this pod. Calls nobody, but
    for an exec plugin. Raises NoCluster."""
    configuration = Configuration()
    # A Go server's certificates need not say whose key signed them, which Python >= 3.13 would insist on.
    configuration.disable_strict_ssl_verification = True
    try:
        if kubeconfig is None:
            return await _of_pod(configuration, pod or Pod(), monotonic)
        return await _of_file(configuration, kubeconfig, context, monotonic)
    except (ConfigException, OSError, ValueError, TypeError, AttributeError) as error:
        raise NoCluster(f"cannot use {kubeconfig or 'the credentials of the pod'}: {error}") from error


async def _of_pod(configuration: Any, pod: Pod, monotonic: Callable[[], float]) -> Connection:
    if not pod:
        raise NoCluster(
            f"no kubeconfig is named, and this is no pod with a service account ({HOST_VARIABLE}, {pod.folder}/token): "
            "name a kubeconfig file"
        )
    configuration.host, configuration.ssl_ca_cert = pod.url, str(pod.folder / "ca.crt")
    await _renewed_by(_TokenFile(pod.folder / "token", monotonic), configuration)
    return Connection(ApiClient(configuration))


async def _of_file(configuration: Any, path: Path, context: str, monotonic: Callable[[], float]) -> Connection:
    config = kubeconfigs.read(path, context)
    user = config["users"][0]["user"]
    with tempfile.TemporaryDirectory(prefix="canopy-kube-") as folder:
        named = kubeconfigs.with_files(config, Path(folder))
        loader = await load_kube_config_from_dict(named, client_configuration=configuration)
        if "exec" in user:
            await _renewed_by(_Plugin(loader, user["exec"].get("command", "")), configuration)
        elif user.get("tokenFile") and not user.get("token"):
            await _renewed_by(_TokenFile(Path(user["tokenFile"]), monotonic), configuration)
        return Connection(ApiClient(configuration))  # has read the files by now


async def _renewed_by(renew: Renew, configuration: Any) -> None:
    """Now, and before each call."""
    configuration.refresh_api_key_hook = renew
    await renew(configuration)


class _TokenFile:
    """A bearer token that someone else renews in its file."""

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self._path, self._monotonic, self._read = path, monotonic, float("-inf")

    async def __call__(self, configuration: Any) -> None:
        if self._monotonic() - self._read < TOKEN_SECONDS:
            return
        try:
            token = self._path.read_text().strip()
        except OSError as error:
            raise NoCluster(f"the token file {self._path} cannot be read: {error}") from error
        configuration.api_key["BearerToken"] = f"Bearer {token}"
        self._read = self._monotonic()


class _Plugin:
    """A bearer token from an exec plugin, which is called again shortly before the token ends."""

    def __init__(self, loader: Any, command: str) -> None:
        self._loader, self._command = loader, command

    async def __call__(self, configuration: Any) -> None:
        loader = self._loader
        if hasattr(loader, "exec_plugin_expiry"):
            await loader.load_from_exec_plugin()
        token = getattr(loader, "token", "")
        if not token and not getattr(loader, "cert_file", None):
            raise NoCluster(f"the kubeconfig's exec plugin {self._command!r} gave no credentials: try it by hand")
        if token:
            configuration.api_key["BearerToken"] = token

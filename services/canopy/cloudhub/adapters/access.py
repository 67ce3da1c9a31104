"""Who calls the fleet API, and with whose rights: CloudHub has none of its own over devices. `http` asks it."""

import secrets

from canopy.cloudhub.adapters.problem import Problem
from canopy.kube.api import Kube

MAX_TOKEN_CHARACTERS = 16_384


class Access:
    """With `api_token` (standalone), its bearer acts as the kubeconfig's user; else each token is handed on."""

    def __init__(self, kube: Kube | None, api_token: str = "") -> None:
        self._kube, self._api_token = kube, api_token

    def of(self, token: str) -> Kube:
        """The caller's own Kube. Raises Problem (401, 503)."""
        if not token or len(token) > MAX_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable():
            raise Problem(401, "say who you are: Authorization: Bearer TOKEN")
        if self._api_token and not secrets.compare_digest(token, self._api_token):
            raise Problem(401, "the bearer token is not the one of this API")
        if self._kube is None:
            raise Problem(503, "no Kubernetes: CANOPY_CLOUDHUB_KUBECONFIG names none, and this is no pod that has one")
        return self._kube if self._api_token else self._kube.with_token(token)

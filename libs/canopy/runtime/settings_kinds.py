"""Kinds of values that settings have, each refusing what is wrong with a sentence. Units' settings use them."""

import re
from typing import Annotated

from pydantic import AfterValidator

NODE_NAME_CHARACTERS = 253

_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NATS_URL = re.compile(r"(nats|tls)://([^/@\s:]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,200}")
_LISTEN = re.compile(r"([^\s:\[\]]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
_LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+|localhost|::1")


def _node_name(value: str) -> str:
    if len(value) > NODE_NAME_CHARACTERS or not _NODE_NAME.fullmatch(value):
        raise ValueError(
            "must be a Kubernetes name: lower-case letters, digits, '-' and '.', beginning and ending with a letter "
            f"or digit, at most {NODE_NAME_CHARACTERS} characters, such as 'edge-1'"
        )
    return value


def _trust_domain(value: str) -> str:
    if not _TRUST_DOMAIN.fullmatch(value):
        raise ValueError("must be a SPIFFE trust domain: a-z, 0-9, '.', '_' and '-', such as 'fleet.example.org'")
    return value


def _nats_url(value: str) -> str:
    if not all(_NATS_URL.fullmatch(one) for one in value.split(",")):
        raise ValueError(
            "must look like nats://127.0.0.1:4222 (several servers of one hub with commas), without user and password: "
            "NATS knows by certificates"
        )
    return value


def _listen(value: str) -> str:
    match = _LISTEN.fullmatch(value)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError("must be host:port, such as 127.0.0.1:0 (port 0: a free one)")
    return value


def _http_url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", value):
        raise ValueError("must be empty (off) or look like http://127.0.0.1:4318")
    return value


NodeName = Annotated[str, AfterValidator(_node_name)]
TrustDomain = Annotated[str, AfterValidator(_trust_domain)]
NatsUrl = Annotated[str, AfterValidator(_nats_url)]
Listen = Annotated[str, AfterValidator(_listen)]
ListenOrNot = Annotated[str, AfterValidator(lambda value: value and _listen(value))]
"""Empty: it does not listen."""
HttpUrl = Annotated[str, AfterValidator(_http_url)]


def host_and_port(listen: str) -> tuple[str, int]:
    """Cut a Listen value."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(listen: str) -> bool:
    return _LOOPBACK.fullmatch(host_and_port(listen)[0]) is not None

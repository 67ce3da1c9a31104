"""MQTT over TLS as a device's own client speaks it, and NATS subjects as MQTT topics."""

import ssl
from contextlib import suppress
from pathlib import Path

import aiomqtt

from canopy.testing.child import HOST

REFUSED = 128


def client(port: int, identity: Path, roots: Path, **more: object) -> aiomqtt.Client:
    """A client by the certificate in the folder `identity`, which believes the file `roots`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(roots)
    context.load_cert_chain(identity / "svid.pem")
    return aiomqtt.Client(HOST, port, tls_context=context, protocol=aiomqtt.ProtocolVersion.V311, timeout=5, **more)


def topic(subject: str) -> str:
    """As the gateway maps it."""
    words = subject.replace("//", "\0").replace(".", "/").replace("\0", ".")
    return words.replace("*", "+").replace(">", "#")


async def may_subscribe(one: aiomqtt.Client, subject: str) -> bool:
    """Whether the gateway takes the subscription."""
    with suppress(aiomqtt.MqttError, ValueError):
        codes = await one.subscribe(topic(subject), qos=1)
        return all(code.value < REFUSED for code in codes)
    return False

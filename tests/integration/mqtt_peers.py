"""NATS subjects as MQTT topics, and whether a client may subscribe to them."""

from contextlib import suppress

import aiomqtt

REFUSED = 128


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

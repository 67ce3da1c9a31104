"""Whether this node's leaf has its connection to the hub: asked of the leaf itself, nothing crosses the link.

A cut that is shorter than a beat shows in no ask, but what was pushed meanwhile is lost: EdgeHub looks often, and
says hello again. (Every account may ask the server for its own figures; 2.15.)
"""

import json

from canopy.bus.bus import Bus
from canopy.bus.outcome import AskFailed

LINKED = "$SYS.REQ.ACCOUNT.PING.STATZ"
LOOK_SECONDS = 1.0


async def linked(bus: Bus) -> bool | None:
    """True while the leaf is connected to the hub; None if the leaf does not say."""
    try:
        answer = await bus.request(LINKED, b"", {}, LOOK_SECONDS)
        accounts = json.loads(answer.data)["data"]["account_statz"]
        return any(int(account.get("leafnodes", 0)) > 0 for account in accounts)
    except (AskFailed, ValueError, KeyError, TypeError):
        return None

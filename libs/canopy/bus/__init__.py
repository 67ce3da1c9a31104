"""The only door to NATS: connections, saying and asking, dispatch, streams of last values, the gateway's stream.

`Connection.open` is shared by folded units; each unit has its own `Bus` over it, with its own rights and inbox.
"""

from canopy.bus.lean import without_websockets

with without_websockets():
    from canopy.bus.bus import Bus, Place
    from canopy.bus.connection import Connection
    from canopy.bus.outcome import AskFailed, AskTimeout, NoResponders, Reject, Retry

__all__ = ["AskFailed", "AskTimeout", "Bus", "Connection", "NoResponders", "Place", "Reject", "Retry"]

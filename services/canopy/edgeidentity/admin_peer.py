"""Who is at the other end of a unix socket, by the kernel's word. The admin socket asks it of everybody."""

import os
import pwd
import socket
import struct
import sys
from dataclasses import dataclass

_LOCAL_PEERCRED = 0x001
_SOL_LOCAL = 0
"""macOS has no SO_PEERCRED; its LOCAL_PEERCRED names the user and no process."""


@dataclass(frozen=True, slots=True)
class Peer:
    """`pid` is 0 where the kernel does not say it."""

    pid: int
    uid: int
    gid: int

    def __str__(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"

    @property
    def may_ask(self) -> bool:
        """Only root and the user of this process."""
        return self.uid in (0, os.geteuid())


def peer_of(sock: socket.socket) -> Peer:
    """Raises OSError."""
    if sys.platform == "linux":
        return Peer(*struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))
    _, uid, _, gid = struct.unpack("2IhxxI", sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 16))
    return Peer(0, uid, gid)

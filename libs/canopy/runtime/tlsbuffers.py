"""How much memory a TLS connection of asyncio takes. `launch` says it once, for its process.

asyncio keeps 256 KiB for each connection, and asks OpenSSL for as much anew at every read, which never gives more than
a record of 16 KiB: an edge whose front had a hundred devices took 100 MB, and takes 79 MB by this.
"""

from asyncio.sslproto import SSLProtocol

BUFFER_BYTES = 64 * 1024
"""Four records at once, where more than one has come."""


def spare() -> None:
    """From now on each TLS connection of this process takes BUFFER_BYTES."""
    SSLProtocol.max_size = BUFFER_BYTES

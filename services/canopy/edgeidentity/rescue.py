"""A leaf that serves a certificate of long ago: it was started before this unit, or left alone by it for longer than
a certificate lasts. Nobody can connect to it then, and nothing can be asked of it: the signal is left.

`prepare` runs it for as long as the process lives. What the leaf serves is looked at once it listens, and again when
that would end; a leaf whose process cannot be seen from here (another container) has to be started anew by others.
"""

import asyncio
import logging
import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

from canopy.bus.trust import SYSTEM
from canopy.edgeidentity.folders import Folders
from canopy.identity.chains import Untrusted, verify_chain
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE
from canopy.identity.svid import BadSvid, Bundle, certificates
from canopy.runtime.clock import Clock
from canopy.runtime.logs import once_per

log = logging.getLogger("canopy.edgeidentity")
PROBE_SECONDS = 5.0
AGAIN_SECONDS = 1.0
MOST_SECONDS = 60.0
BAD_LOOKS = 2
"""In a row: a reload that is late is not mended by the signal, which closes the gate for a moment."""
SAY_AGAIN_SECONDS = 60.0
PROCESSES = Path("/proc")
SERVER = "nats-server"


class Rescue:
    """`host`, `port`: where the leaf listens for MQTT over TLS, which begins with TLS at once."""

    def __init__(self, folders: Folders, host: str, port: int, clock: Clock) -> None:
        self._folders, self._host, self._port, self._clock = folders, host, port, clock
        self._say, self._bad = once_per(SAY_AGAIN_SECONDS), 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(await self.look())

    async def look(self) -> float:
        """Look once, and send the signal if it is needed; seconds until the next look."""
        served = await self._served()
        if not served:
            return AGAIN_SECONDS
        now = self._clock.now_ms() / 1000
        try:
            bundle = Bundle.read((self._folders.leaf / BUNDLE_FILE).read_bytes())
            verify_chain(served, bundle, now)
        except (Untrusted, BadSvid, OSError) as e:
            self._bad += 1
            if self._bad < BAD_LOOKS:
                return AGAIN_SECONDS
            self._signal(str(e))
            return min(MOST_SECONDS, float(AGAIN_SECONDS * 2 ** min(self._bad - BAD_LOOKS, 10)))
        self._bad = 0
        ends = certificates(served)[0].not_valid_after_utc.timestamp()
        return max(AGAIN_SECONDS, min(MOST_SECONDS, ends - now + AGAIN_SECONDS))

    async def _served(self) -> bytes:
        """The certificate that the leaf shows now (PEM); nothing if it does not listen."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is judged by `look`
            context.load_cert_chain(self._folders.unit(SYSTEM) / SVID_FILE)
            async with asyncio.timeout(PROBE_SECONDS):
                _, writer = await asyncio.open_connection(self._host, self._port, ssl=context)
        except (OSError, TimeoutError):
            return b""
        try:
            shown: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
            return ssl.DER_cert_to_PEM_cert(shown).encode()
        finally:
            writer.transport.abort()

    def _signal(self, why: str) -> None:
        found = list(processes(self._folders.config))
        for pid in found:
            os.kill(pid, signal.SIGHUP)
        if self._say("told" if found else "not found"):
            todo = (
                "it is told to read its files again" if found else f"start {SERVER} anew: it cannot be seen from here"
            )
            log.warning("the leaf shows a certificate that nobody takes: %s; %s", why, todo)


def processes(config: Path) -> Iterator[int]:
    """Which nats-servers run on this configuration, of those that this process may signal."""
    for entry in PROCESSES.glob("[0-9]*"):
        try:
            name, *arguments = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            ours = os.geteuid() in (0, entry.stat().st_uid)
        except OSError:
            continue
        if Path(name).name == SERVER and ours and any(one.endswith(str(config)) for one in arguments):
            yield int(entry.name)

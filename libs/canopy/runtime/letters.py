"""Dead letters of one unit: what it could not handle because of a bug of ours, set aside for people to see.

Whoever handles something calls `failed` when it raised what nobody expected, and goes on with the next. The letters are
kept in a small file over restarts until the cloud has them (`canopy.bus.letters` sends them). The same body failing
again is the same letter with a higher count; everything is bounded, and what a bound drops is counted.
"""

import base64
import logging
import traceback
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec.structs import replace

from canopy.contracts.wire import DeadLetter
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.letterfile import LetterFile
from canopy.runtime.secrets import without_secrets

log = logging.getLogger("canopy.letters")
KEPT_LETTERS = 100
KNOWN_LETTERS = 500
TEXT_CHARACTERS = 500
SOURCE_CHARACTERS = 300
TRACEBACK_CHARACTERS = 6_000
BODY_BYTES = 4_096
AT_ONCE, PER_SECOND = 20, 1.0
"""New letters after quiet, and then a second: each is a write to the disk, and thousands would tell people no more."""
AGAIN_SECONDS = 10.0
"""Between two sendings of one letter whose count rises."""


class DeadLetters:
    """One unit's. Not for several threads."""

    def __init__(self, unit: str, clock: Clock | None = None, file: Path | None = None) -> None:
        self.unit, self._clock, self._file = unit, clock or SystemClock(), LetterFile(file)
        self._known: OrderedDict[str, DeadLetter] = OrderedDict()
        self._unsent: dict[str, float] = {}  # id -> when it may be sent
        self._tries: OrderedDict[str, int] = OrderedDict()
        self._room, self._filled = float(AT_ONCE), self._clock.monotonic()
        self.total = self.dropped = 0
        for letter in self._file.read():
            self._known[letter.id] = letter
            self._unsent[letter.id] = 0.0

    @property
    def unsent(self) -> int:
        """How many the cloud does not have as they are now."""
        return len(self._unsent)

    def failed(
        self,
        source: str,
        error: BaseException,
        body: bytes = b"",
        *,
        trace: str = "",
        tries: int = 1,
        after: int = 1,
        by_place: bool = False,
    ) -> int:
        """The handling of `body` (of `source`: a subject, an object, a driver) raised `error`, `tries` times more.

        Returns how often that was now. From the `after`th time on there is a letter.
        `by_place`: the same failure is that which came up at the same line of code, not that of the same body.
        """
        id = _id(self.unit, source, error, _place(error) if by_place else body)
        count = self._tries[id] = self._tries.pop(id, 0) + tries
        _bound(self._tries, KNOWN_LETTERS)
        if count >= after:
            self._keep(id, source, error, body, trace, count)
        return count

    def waiting(self, most: int) -> list[DeadLetter]:
        """Letters to be sent now, the oldest first."""
        now = self._clock.monotonic()
        return [self._known[id] for id, due in self._unsent.items() if due <= now][:most]

    def sent(self, letters: Iterable[DeadLetter]) -> None:
        """The cloud has them. One that has failed again meanwhile is sent again, later."""
        for letter in letters:
            if self._known.get(letter.id) == letter:
                self._unsent.pop(letter.id, None)
            elif letter.id in self._unsent:
                self._unsent[letter.id] = self._clock.monotonic() + AGAIN_SECONDS
        self._write()

    def _keep(self, id: str, source: str, error: BaseException, body: bytes, trace: str, count: int) -> None:
        now, known = self._clock.now_ms(), self._known.get(id)
        if known is not None:
            self._known[id] = replace(known, count=max(count, known.count + 1), last=now)
            self._unsent.setdefault(id, self._clock.monotonic() + AGAIN_SECONDS)
            return
        if not self._may_begin():
            return
        log.error("a dead letter %s: handling %s failed %d times", id, source, count, exc_info=error)
        self.total += 1
        self._known[id] = _letter(id, self.unit, source, error, body, trace, count, now)
        self._unsent[id] = 0.0
        self._forget()
        self._write()

    def _may_begin(self) -> bool:
        now = self._clock.monotonic()
        self._room = min(float(AT_ONCE), self._room + (now - self._filled) * PER_SECOND)
        self._filled = now
        if self._room < 1.0:
            self.dropped += 1
            return False
        self._room -= 1.0
        return True

    def _forget(self) -> None:
        while len(self._unsent) > KEPT_LETTERS:
            oldest = next(iter(self._unsent))
            del self._unsent[oldest], self._known[oldest]
            self.dropped += 1
        for id in list(self._known)[: max(0, len(self._known) - KNOWN_LETTERS)]:
            if id not in self._unsent:
                del self._known[id]

    def _write(self) -> None:
        self._file.write([self._known[id] for id in self._unsent])


def _id(unit: str, source: str, error: BaseException, body: bytes) -> str:
    what = "\0".join((unit, source, type(error).__name__)).encode("utf-8", "replace")
    return blake2b(what + b"\0" + body, digest_size=8).hexdigest()


def _place(error: BaseException) -> bytes:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}".encode() if frames else b""


def _letter(
    id: str, unit: str, source: str, error: BaseException, body: bytes, trace: str, count: int, now: int
) -> DeadLetter:
    lines = "".join(traceback.format_exception(error))
    return DeadLetter(
        id=id,
        unit=unit,
        source=_clean(source, SOURCE_CHARACTERS),
        error=type(error).__name__,
        text=_clean(str(error), TEXT_CHARACTERS),
        traceback=_clean(lines[-TRACEBACK_CHARACTERS:], TRACEBACK_CHARACTERS),
        body=base64.b64encode(without_secrets(body)[:BODY_BYTES]).decode(),
        body_bytes=len(body),
        count=count,
        first=now,
        last=now,
        trace=trace[:256],
    )


def _clean(text: str, most: int) -> str:
    """Cut, without secrets, and such as can be encoded."""
    return without_secrets(text.encode("utf-8", "replace")).decode("utf-8", "replace")[:most]


def _bound(counts: "OrderedDict[str, int]", most: int) -> None:
    while len(counts) > most:
        counts.popitem(last=False)


def encoded(value: object) -> bytes:
    """What was handled as JSON, for a letter; what JSON cannot say as Python says it."""
    try:
        return msgspec.json.encode(value)
    except Exception:
        return repr(value)[:BODY_BYTES].encode("utf-8", "replace")

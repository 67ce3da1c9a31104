"""Files that hold secrets: whole or not there, and for their owner only. Every writer of identity files calls it."""

import os
import secrets
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Put `content` at `path`, 0600, in one rename; a reader sees the old or the new, also after a power cut."""
    private_folder(path.parent)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def private_folder(path: Path) -> None:
    """Make `path`, 0700; one that is there already stays as it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)

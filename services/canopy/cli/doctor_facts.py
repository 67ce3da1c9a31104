"""What `canopy doctor` saw, what it says of it, and words that both its cores use. Pure; times in s since 1970."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from canopy.contracts.times import rfc3339

Verdict = Literal["ok", "wrong", "unknown"]
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is one word or two; `tries` are for who stands before it, the likeliest first."""

    check: str
    verdict: Verdict
    text: str
    tries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lasting:
    """A certificate. `doubt`: why the roots beside it do not believe it, or why it cannot be read (then without id)."""

    name: str
    id: str = ""
    begins: float = 0.0
    ends: float = 0.0
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Loose:
    """A file with a private key that others than its owner may read, or that the owner of the folder does not own."""

    path: str
    mode: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Dialled:
    """`fault` is empty where the right one answered. `stranger`: somebody answers who is not believed, or does not
    believe us. `ahead_seconds`: by how much this machine's clock is ahead of the time that it gave."""

    where: str
    fault: str = ""
    stranger: bool = False
    ahead_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    where: str
    free_bytes: int
    free_files: int | None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """`not_joined` is why there is no joined node; `given` says that others write the link's files, so none is needed.
    `configured`: edgeidentity has written the leaf's configuration. `linked`: the leaf has its connection to the hub
    (None: it does not say)."""

    folder: str
    node: str
    not_joined: str
    given: bool
    configured: bool
    link: Lasting
    roots: tuple[Lasting, ...]
    units: tuple[Lasting, ...]
    loose: tuple[Loose, ...]
    keys: int
    join: tuple[Dialled, ...]
    hub: tuple[Dialled, ...]
    leaf: Dialled
    linked: bool | None
    gateway: Dialled
    admin: Dialled
    disks: tuple[Disk, ...]


def listed(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return "; ".join(texts[:MOST_NAMED]) + more


def ends(ends: float, now: float) -> str:
    left = f"{age(ends - now)} left" if ends > now else f"over since {age(now - ends)}"
    return f"until {shown(ends)} ({left})"


def shown(seconds: float) -> str:
    return rfc3339(round(seconds) * 1000)


def age(seconds: float) -> str:
    """How long, in the largest unit that says something."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"

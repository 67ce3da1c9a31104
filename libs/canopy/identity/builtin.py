"""An authority in a folder: a node's own (edgeidentity), and the fleet's in the demo and in tests.

Its root keys lie in files, 0600, shared by the processes of one machine under a lock; the roots follow each other by
themselves (`roots`), without anything from outside. Production's fleet has SPIRE instead (`spire`).
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from canopy.identity import ids, roots
from canopy.identity.authority import AuthorityAway, AuthorityRefused, Entry, Minted, asked
from canopy.identity.certificates import BadSvid
from canopy.identity.ids import SpiffeId
from canopy.identity.private import private_folder, write_private
from canopy.identity.roots import Root
from canopy.identity.svid import Bundle, certificates, chain_pem_of
from canopy.runtime.clock import Clock, SystemClock

DAY_SECONDS = 86_400.0


class Builtin:
    """The authority of `trust_domain`, whose roots live in `folder` for `ca_ttl_seconds` each."""

    def __init__(
        self, folder: Path, trust_domain: str, *, ca_ttl_seconds: float = DAY_SECONDS, clock: Clock | None = None
    ) -> None:
        self._folder = folder
        self.trust_domain = SpiffeId(trust_domain, "").trust_domain
        self._ca_ttl_seconds = ca_ttl_seconds
        self._clock = clock or SystemClock()

    @property
    def says(self) -> str:
        return f"built-in authority of {self.trust_domain}, its root key in {self._folder}"

    async def mint(
        self, csr_pem: bytes, id: SpiffeId, *, ttl_seconds: float, dns: tuple[str, ...] = (), ips: tuple[str, ...] = ()
    ) -> Minted:
        """As the Authority says; `ips` are addresses that a server's certificate is good for, with or without a CSR
        that asks for them."""
        csr = asked(csr_pem, id, dns, self.trust_domain)
        if ttl_seconds <= 0:
            raise AuthorityRefused(f"an SVID for {ttl_seconds} s: give a time above 0")
        now = self._now()
        root = roots.signer(self._roots(now), now)
        pem = roots.minted(root, id, csr.public_key_pem, now + ttl_seconds, now, dns, ips)
        return Minted(pem, certificates(pem)[0].not_valid_after_utc.timestamp())

    async def bundle(self) -> Bundle:
        found = self._roots(self._now())
        return Bundle(self.trust_domain, tuple(root.certificate_pem for root in found))

    async def entries(self) -> tuple[Entry, ...]:
        with self._locked():
            return tuple(self._entries().values())

    async def put(self, entry: Entry) -> None:
        with self._locked():
            self._keep({**self._entries(), str(entry.id): entry})

    async def remove(self, id: SpiffeId) -> None:
        with self._locked():
            self._keep({key: entry for key, entry in self._entries().items() if key != str(id)})

    async def close(self) -> None:
        """Nothing is held open."""

    def _now(self) -> float:
        return self._clock.now_ms() / 1000

    def _roots(self, now: float) -> tuple[Root, ...]:
        """The living roots, the next one made if it is due, what is over removed."""
        found = self._read()
        if not self._settled(found, now):
            with self._locked():
                self._settle(now)
                found = self._read()
        return tuple(found.values())

    def _settled(self, found: dict[Path, Root], now: float) -> bool:
        all_roots = tuple(found.values())
        return len(roots.living(all_roots, now)) == len(all_roots) and not roots.next_is_due(all_roots, now)

    def _settle(self, now: float) -> None:
        found = self._read()
        for path in [path for path, root in found.items() if root.ends <= now]:
            path.unlink(missing_ok=True)
            del found[path]
        if roots.next_is_due(tuple(found.values()), now):
            root = roots.made(self.trust_domain, self._ca_ttl_seconds, now)
            pem = root.key_pem + root.certificate_pem
            write_private(self._folder / f"root-{root.certificate.serial_number:x}.pem", pem)

    def _read(self) -> dict[Path, Root]:
        """Every root in the folder, oldest first."""
        found = {}
        for path in self._folder.glob("root-*.pem"):
            try:
                found[path] = _root(path.read_bytes())
            except FileNotFoundError:
                continue  # another process has just removed one that is over
            except (OSError, BadSvid) as e:
                raise AuthorityAway(f"{self.says}: {path.name} cannot be read ({e}); remove what is no root") from e
        return dict(sorted(found.items(), key=lambda item: item[1].made))

    def _entries(self) -> dict[str, Entry]:
        try:
            listed = json.loads((self._folder / "entries.json").read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as e:
            raise AuthorityAway(f"{self.says}: entries.json cannot be read ({e}); remove it") from e
        return {one["id"]: _entry(one) for one in listed}

    def _keep(self, entries: dict[str, Entry]) -> None:
        listed = [_listed(entries[key]) for key in sorted(entries)]
        write_private(self._folder / "entries.json", json.dumps(listed, indent=1).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the processes that share the folder; held for milliseconds."""
        private_folder(self._folder)
        handle = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _root(pem: bytes) -> Root:
    at = pem.find(b"-----BEGIN CERTIFICATE")
    if at <= 0:
        raise BadSvid("a root without its key or its certificate")
    return Root(chain_pem_of(certificates(pem[at:])[:1]), pem[:at])


def _listed(entry: Entry) -> dict[str, object]:
    return {
        "id": str(entry.id),
        "parent": str(entry.parent),
        "selectors": entry.selectors,
        "dns": entry.dns,
        "ttl_seconds": entry.ttl_seconds,
    }


def _entry(one: dict[str, object]) -> Entry:
    selectors, dns = one["selectors"], one["dns"]
    assert isinstance(selectors, list) and isinstance(dns, list)
    ttl_seconds = int(str(one["ttl_seconds"]))
    return Entry(ids.parse(str(one["id"])), ids.parse(str(one["parent"])), tuple(selectors), tuple(dns), ttl_seconds)

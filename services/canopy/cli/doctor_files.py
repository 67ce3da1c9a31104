"""What `canopy doctor` reads of a node's folder. Nothing is written, and no key leaves this module."""

import json
import os
import pwd
import re
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from canopy.cli.doctor_facts import Disk, Lasting, Loose
from canopy.identity.chains import Untrusted, verify_chain
from canopy.identity.identity import SVID_FILE, Identity, NoIdentity, read_identity
from canopy.identity.joinstate import JoinState, NotJoined
from canopy.identity.roots import ROOT_BACKDATED_SECONDS
from canopy.identity.svid import BadSvid, certificates

MOST_FILES = 10_000
KEY_BYTES = 64 * 1024
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_LISTEN = re.compile(rf"^listen: {_QUOTED}", re.MULTILINE)
_MQTT = re.compile(rf"^mqtt \{{ listen: {_QUOTED}", re.MULTILINE)
_STORE = re.compile(rf"^jetstream \{{ store_dir: {_QUOTED}", re.MULTILINE)
_REMOTE = re.compile(rf"remotes: \[ \{{ urls?: (\[[^\]]*\]|{_QUOTED}).*?cert_file: {_QUOTED}")


@dataclass(frozen=True, slots=True)
class Config:
    """What the leaf's configuration says: addresses as host:port, folders."""

    leaf: str = ""
    gateway: str = ""
    hubs: tuple[str, ...] = ()
    link: Path | None = None
    store: Path | None = None


@dataclass(frozen=True, slots=True)
class Folders:
    """As edgeidentity has them, whose code is not where the command line is; a test holds the two together."""

    root: Path
    link: Path
    store: Path

    @property
    def authority(self) -> Path:
        return self.root / "authority"

    @property
    def leaf(self) -> Path:
        return self.root / "leaf"

    @property
    def join(self) -> Path:
        return self.root / "join"

    def unit(self, unit: str) -> Path:
        return self.root / "units" / unit


@dataclass(frozen=True, slots=True)
class Read:
    """What stands on the disk. `link` is None where there is no identity that can be read, `state` where none joined;
    `unit` is an identity that the leaf takes, `server` who the leaf is."""

    folders: Folders
    data: Path
    config: Config | None
    state: JoinState | None
    not_joined: str
    link: Identity | None
    link_fault: str
    unit: Identity | None
    server: Identity | None


def read(data: Path, identity: Path) -> Read:
    """The node whose units have `data` as CANOPY_DATA_DIR and whose edgeidentity keeps `identity`."""
    config = read_config(identity / "nats.conf")
    link = config.link if config and config.link else identity / "link"
    folders = Folders(identity, link, config.store if config and config.store else data / "jetstream")
    state, not_joined = _state(folders.join)
    found, fault = _identity(link if (link / SVID_FILE).exists() or state is None else folders.join)
    units = [_identity(folders.unit(name))[0] for name in ("edgeidentity", *_units(folders))]
    unit = next((one for one in units if one is not None), None)
    return Read(folders, data, config, state, not_joined, found, fault, unit, _identity(folders.leaf)[0])


def config_of(text: str) -> Config:
    """Of a configuration as `canopy.bus.config` writes it."""
    remote = _REMOTE.search(text)
    hubs = json.loads(remote[1]) if remote else []
    link, store = (Path(_unquoted(remote[3])).parent if remote else None), _STORE.search(text)
    return Config(
        _unquoted(_first(_LISTEN, text)),
        _unquoted(_first(_MQTT, text)),
        tuple(hub.removeprefix("tls://") for hub in ([hubs] if isinstance(hubs, str) else hubs)),
        link if link and link.is_dir() else None,  # a container's own names of its folders say nothing outside
        Path(_unquoted(store[1])) if store and Path(_unquoted(store[1])).is_dir() else None,
    )


def read_config(file: Path) -> Config | None:
    try:
        return config_of(file.read_text())
    except (OSError, ValueError):
        return None


def link(found: Read, now: float) -> Lasting:
    return _lasting("link", found.link, now) if found.link else Lasting("link", doubt=found.link_fault)


def units(found: Read, now: float) -> tuple[Lasting, ...]:
    """The leaf's and those of the units."""
    places = {"leaf": found.folders.leaf} | {name: found.folders.unit(name) for name in _units(found.folders)}
    return tuple(_judged(name, folder, now) for name, folder in places.items() if folder.exists())


def roots(found: Read) -> tuple[Lasting, ...]:
    return tuple(_root(file) for file in sorted(found.folders.authority.glob("root-*.pem")))


def keys(found: Read) -> tuple[int, tuple[Loose, ...]]:
    """How many files hold a private key, and those that are not for their owner alone."""
    if not found.folders.root.is_dir():
        return 0, ()
    owner = found.folders.root.stat().st_uid
    files = [file for file in islice(found.folders.root.rglob("*"), MOST_FILES) if _holds_a_key(file)]
    return len(files), tuple(loose for file in files if (loose := _loose(file, owner)) is not None)


def disks(found: Read) -> tuple[Disk, ...]:
    """One for each file system that this node writes to."""
    places = [place for place in (found.data, found.folders.root, found.folders.store) if place.is_dir()]
    by_device = {place.stat().st_dev: place for place in reversed(places)}
    return tuple(_disk(place) for place in by_device.values())


def _state(folder: Path) -> tuple[JoinState | None, str]:
    try:
        return JoinState.read(folder), ""
    except NotJoined as e:
        return None, str(e)


def _identity(folder: Path) -> tuple[Identity | None, str]:
    try:
        return read_identity(folder), ""
    except NoIdentity as e:
        return None, str(e)


def _units(folders: Folders) -> list[str]:
    return sorted(file.parent.name for file in (folders.root / "units").glob(f"*/{SVID_FILE}"))


def _judged(name: str, folder: Path, now: float) -> Lasting:
    found, fault = _identity(folder)
    return _lasting(name, found, now) if found else Lasting(name, doubt=fault)


def _lasting(name: str, found: Identity, now: float) -> Lasting:
    svid, doubt = found.svid, ""
    try:
        verify_chain(svid.chain_pem, found.bundle, now)
    except Untrusted as e:
        doubt = str(e)
    return Lasting(name, str(svid.id), svid.not_before, svid.not_after, doubt)


def _root(file: Path) -> Lasting:
    try:
        root = certificates(file.read_bytes())[0]
    except (OSError, BadSvid) as e:
        return Lasting(file.name, doubt=str(e))
    begins, ends = root.not_valid_before_utc.timestamp() + ROOT_BACKDATED_SECONDS, root.not_valid_after_utc.timestamp()
    return Lasting(file.name, f"root {root.serial_number:x}"[:13], begins, ends)


def _holds_a_key(file: Path) -> bool:
    if file.suffix not in (".pem", ".key") or not file.is_file():
        return False
    try:
        with file.open("rb") as opened:
            return b"PRIVATE KEY" in opened.read(KEY_BYTES)
    except OSError:
        return True  # not even we can read it: it is somebody's


def _loose(file: Path, owner: int) -> Loose | None:
    found = file.stat()
    theirs = "" if found.st_uid == owner else _user(found.st_uid)
    mode = found.st_mode & 0o777
    return Loose(str(file), mode, theirs) if mode & 0o077 or theirs else None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _disk(place: Path) -> Disk:
    files = os.statvfs(place)
    return Disk(str(place), shutil.disk_usage(place).free, files.f_favail if files.f_files else None)


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _unquoted(text: str) -> str:
    return str(json.loads(f'"{text}"'))

"""What a data directory is, read without changing anything."""

import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openvcha.node.first_node.adoption.programs import Programs
from openvcha.node.postgres.server import STANDBY_SIGNAL, postgres_major
from openvcha.system.files.regular_files import read_regular

SHUT_DOWN = "shut down"
RUNS = "postmaster.pid"
SIGNS = (RUNS, STANDBY_SIGNAL, "recovery.signal", "recovery.conf", "backup_label")
AUTO_SETTINGS = "postgresql.auto.conf"
_SLOT = struct.Struct("=16x64sI")
"""A slot's state file: after its header, its name and the database of a logical one."""
_MOST_SETTINGS = 1 << 20
_SETTING = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(?:=|\s)\s*'?((?:[^'\n]|'')*?)'?\s*(?:#.*)?$")
EXAMINED = (
    *("wal_level", "max_wal_senders", "max_replication_slots", "max_connections"),
    *("max_prepared_transactions", "max_worker_processes", "max_locks_per_transaction"),
    *("track_commit_timestamp", "shared_preload_libraries", "archive_mode", "fsync"),
    *("full_page_writes", "restore_command", "recovery_target", "recovery_target_name"),
    *("recovery_target_time", "recovery_target_xid", "recovery_target_lsn"),
    *("recovery_min_apply_delay", "synchronous_commit"),
)
"""The settings whose effective values decide whether and how the cluster can run the data."""


@dataclass(frozen=True)
class Slot:
    """A replication slot as stored."""

    name: str
    logical: bool


@dataclass(frozen=True)
class Data:
    """A data directory. ``foreign`` are entries of another owner, ``links`` symbolic links.

    ``signs`` are files that say that its server runs, or that it is no primary's.
    """

    path: Path
    major: int
    control: dict[str, str]
    owner: int
    mode: int
    settings: dict[str, str]
    own_settings: dict[str, str]
    has_settings_file: bool
    signs: tuple[str, ...]
    links: tuple[str, ...]
    foreign: tuple[str, ...]
    slots: tuple[Slot, ...]
    prepared: int
    libraries: tuple[str, ...]
    size: int
    device: int

    @property
    def system(self) -> str:
        """Return the identifier of the database system, which every copy of it has."""
        return self.control.get("Database system identifier", "")


class NoDataDirectory(Exception):  # noqa: N818 - named after the condition
    """It is no data directory; the text says why."""


def require_data_directory(path: Path) -> int:
    """Return the major version of a data directory. Raises NoDataDirectory, OSError."""
    if path.is_symlink():
        raise NoDataDirectory(f"{path} is a symbolic link: give the directory that it points to")
    try:
        major = postgres_major(path)
    except ValueError:
        major = None
    if major is None or not (path / "global" / "pg_control").is_file():
        raise NoDataDirectory(f"{path} is not a data directory of PostgreSQL")
    return major


def examine(path: Path, programs: Programs) -> Data:
    """Return what a data directory is. Raises NoDataDirectory, ProgramFailed, OSError."""
    major = require_data_directory(path)
    found = path.stat()
    links, foreign, size = _tree(path, found.st_uid)
    has_file = bool(programs.settings_file) or (path / "postgresql.conf").is_file()
    settings = _settings(path, programs) if has_file else {}
    return Data(
        path=path,
        major=major,
        control=programs.control(path),
        owner=found.st_uid,
        mode=stat.S_IMODE(found.st_mode),
        settings=settings,
        own_settings=own_settings(path),
        has_settings_file=has_file,
        signs=tuple(name for name in SIGNS if os.path.lexists(path / name)),
        links=links,
        foreign=foreign,
        slots=tuple(_slots(path / "pg_replslot")),
        prepared=_count(path / "pg_twophase"),
        libraries=_libraries(settings.get("shared_preload_libraries", "")),
        size=size,
        device=found.st_dev,
    )


def own_settings(path: Path) -> dict[str, str]:
    """Return what ALTER SYSTEM has set. Raises OSError."""
    try:
        text = read_regular(path / AUTO_SETTINGS)[:_MOST_SETTINGS].decode(errors="replace")
    except FileNotFoundError:
        return {}
    found = (_SETTING.match(line) for line in text.splitlines())
    return {each[1].lower(): each[2].replace("''", "'") for each in found if each}


def _settings(path: Path, programs: Programs) -> dict[str, str]:
    pairs = ((name, programs.setting(path, name)) for name in EXAMINED)
    return {name: value for name, value in pairs if value is not None}


def _tree(path: Path, owner: int) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Return the symbolic links, the entries of other owners, and the size in bytes."""
    links: list[str] = []
    foreign: list[str] = []
    size = 0
    for folder, below, files in os.walk(path):
        for name in (*below, *files):
            entry = Path(folder, name)
            found = entry.lstat()
            size += found.st_blocks * 512
            if stat.S_ISLNK(found.st_mode):
                links.append(str(entry.relative_to(path)))
            if found.st_uid != owner:
                foreign.append(str(entry.relative_to(path)))
    return tuple(sorted(links)), tuple(sorted(foreign)), size


def _slots(directory: Path) -> Iterator[Slot]:
    for state in sorted(directory.glob("*/state")):
        data = read_regular(state)
        logical = len(data) >= _SLOT.size and _SLOT.unpack_from(data)[1] != 0
        yield Slot(state.parent.name, logical)


def _count(directory: Path) -> int:
    return len(list(directory.iterdir())) if directory.is_dir() else 0


def _libraries(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip().strip('"')))

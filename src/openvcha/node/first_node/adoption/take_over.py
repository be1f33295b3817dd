"""Bringing adopted data into a node's directory; each step can be repeated after a crash."""

import os
import re
import shutil
from pathlib import Path

from openvcha.node.first_node.adoption.data import RUNS, NoDataDirectory, require_data_directory
from openvcha.node.layout import Layout
from openvcha.system.files.durable import sync_directory, write_durably
from openvcha.system.files.regular_files import read_regular

KEPT = "adopted"
"""The folder, in the node's directory, of the adopted settings files as they were."""
SETTINGS = "postgresql.conf"
KEPT_FILES = (SETTINGS, "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf")
OF_PATRONI = ("patroni.dynamic.json",)
"""What another Patroni has left in the data directory; ours would obey it."""
_PLACES = re.compile(
    r"^(?=\s*(?:data_directory|config_file|hba_file|ident_file|external_pid_file"
    r"|stats_temp_directory)\b)",
    re.MULTILINE | re.IGNORECASE,
)
_INCLUDES = re.compile(r"^(?=\s*include(?:_dir|_if_exists)?\b)", re.MULTILINE | re.IGNORECASE)
CONTROL = Path("global", "pg_control")
"""Its state, which a server changes when it starts and when it stops."""
MARK = "#adopted: "
"""The beginning of a line that no longer counts."""


def bring(source: Path, layout: Layout, *, copy: bool) -> None:
    """Move or copy a data directory to where the node has its data, unless it is there already.

    Raises NoDataDirectory if neither place has one or its server runs, OSError.
    """
    if layout.pgdata.is_dir() and not layout.pgdata.is_symlink():
        require_data_directory(layout.pgdata)
        return
    require_data_directory(source)
    if os.path.lexists(source / RUNS):
        raise NoDataDirectory(f"a server was started in {source} in the meantime: stop it")
    if copy:
        _copy(source, layout)
        return
    source.rename(layout.pgdata)
    sync_directory(layout.root)
    sync_directory(source.parent)


def take_settings(layout: Layout, settings_file: str = "") -> None:
    """Keep the settings files as they were, and make them fit to their new place; idempotent.

    ``settings_file`` is a ``postgresql.conf`` from elsewhere: what it includes does not count.
    Raises OSError.
    """
    kept, own = layout.root / KEPT, layout.pgdata / SETTINGS
    kept.mkdir(mode=0o700, exist_ok=True)
    for name in KEPT_FILES:
        source = Path(settings_file) if name == SETTINGS and settings_file else layout.pgdata / name
        if source.is_file() and not (kept / name).exists():
            write_durably(kept / name, read_regular(source))
    text = (kept / SETTINGS).read_text(errors="surrogateescape")
    fitting = _PLACES.sub(MARK, text)
    if settings_file:
        fitting = _INCLUDES.sub(MARK, fitting)
    write_durably(own, fitting.encode(errors="surrogateescape"))
    for name in OF_PATRONI:
        (layout.pgdata / name).unlink(missing_ok=True)


def _copy(source: Path, layout: Layout) -> None:
    """Copy into a folder beside the place, which then gets the name: never half a copy."""
    begun = layout.root / f"{KEPT}.copying"
    if begun.exists():
        shutil.rmtree(begun)
    before = read_regular(source / CONTROL)
    shutil.copytree(source, begun, symlinks=True, copy_function=_copied)
    if os.path.lexists(source / RUNS) or read_regular(source / CONTROL) != before:
        shutil.rmtree(begun)
        raise NoDataDirectory(f"a server ran in {source} during the copy: stop it, and copy again")
    for folder, _, _ in os.walk(begun, topdown=False):
        sync_directory(Path(folder))
    begun.rename(layout.pgdata)
    sync_directory(layout.root)


def _copied(source: str, target: str) -> str:
    """Copy a file with its mode and times, and sync it."""
    shutil.copy2(source, target, follow_symlinks=False)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return target

"""The backup of a data directory that is kept until its replacement is in sync.

Each operation is one durable rename, so a crash leaves the state before or after it.
"""

import datetime as dt
from pathlib import Path

from openvcha.node.layout import Layout
from openvcha.node.postgres.cloning.clone import has_data, remove_tree
from openvcha.system.durable import sync_directory

ASIDE = "pgdata.aside-"
DISCARDED = "pgdata.discarded-"


def list_backups(layout: Layout) -> list[Path]:
    """Return the backups, the oldest first."""
    return sorted(path for path in layout.root.glob(f"{ASIDE}*") if path.is_dir())


def create_backup(layout: Layout, now: dt.datetime) -> Path:
    """Turn the node's data into a backup, and return its path. Raises OSError."""
    kept = layout.root / f"{ASIDE}{now:%Y%m%dT%H%M%S.%fZ}"
    _rename(layout.pgdata, kept)
    return kept


def restore_backup(layout: Layout) -> bool:
    """Restore the newest backup, unless the node has data. Return whether it was restored."""
    kept = list_backups(layout)
    if has_data(layout) or not kept:
        return False
    remove_tree(layout.pgdata)  # at most an empty directory
    _rename(kept[-1], layout.pgdata)
    return True


def discard_backups(layout: Layout) -> None:
    """Delete the backups. A half-deleted one never has the name of a backup."""
    for path in list_backups(layout):
        _rename(path, layout.root / path.name.replace(ASIDE, DISCARDED))
    remove_discarded(layout)


def remove_discarded(layout: Layout) -> None:
    """Finish a deletion that a crash interrupted."""
    for path in layout.root.glob(f"{DISCARDED}*"):
        remove_tree(path)


def _rename(old: Path, new: Path) -> None:
    old.rename(new)
    sync_directory(new.parent)

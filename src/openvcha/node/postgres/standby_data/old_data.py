"""The old data of a standby, which are set aside until their replacement is in sync.

Each operation is one durable rename, so a crash leaves the state before or after it.
"""

import datetime as dt
from pathlib import Path

from openvcha.node.layout import Layout
from openvcha.node.postgres.standby_data.base_backup import has_data, remove_tree
from openvcha.system.files.durable import sync_directory

ASIDE = "pgdata.aside-"
DISCARDED = "pgdata.discarded-"


def list_old_data(layout: Layout) -> list[Path]:
    """Return the directories of old data, the oldest first."""
    return sorted(path for path in layout.root.glob(f"{ASIDE}*") if path.is_dir())


def set_data_aside(layout: Layout, now: dt.datetime) -> Path:
    """Set the node's data aside; return their new path. Raises OSError."""
    kept = layout.root / f"{ASIDE}{now:%Y%m%dT%H%M%S.%fZ}"
    _rename(layout.pgdata, kept)
    return kept


def restore_old_data(layout: Layout) -> bool:
    """Restore the newest old data, unless the node has data. Return whether they were restored."""
    kept = list_old_data(layout)
    if has_data(layout) or not kept:
        return False
    remove_tree(layout.pgdata)  # at most an empty directory
    _rename(kept[-1], layout.pgdata)
    return True


def discard_old_data(layout: Layout) -> None:
    """Delete the old data. A half-deleted directory never has the name of one to restore."""
    for path in list_old_data(layout):
        _rename(path, layout.root / path.name.replace(ASIDE, DISCARDED))
    remove_discarded(layout)


def remove_discarded(layout: Layout) -> None:
    """Finish a deletion that a crash interrupted."""
    for path in layout.root.glob(f"{DISCARDED}*"):
        remove_tree(path)


def _rename(old: Path, new: Path) -> None:
    old.rename(new)
    sync_directory(new.parent)

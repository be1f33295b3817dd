"""Old data that are kept until the new copy is in sync: set aside, put back, thrown away.

Each is one rename that survives a power loss, so a crash leaves the one or the other.
"""

import datetime as dt
from pathlib import Path

from openvcha.node.layout import Layout
from openvcha.node.postgres.cloning.clone import has_data, remove_tree
from openvcha.system.durable import sync_directory

ASIDE = "pgdata.aside-"
DISCARDED = "pgdata.discarded-"


def asides(layout: Layout) -> list[Path]:
    """Return the data that are set aside, the oldest first."""
    return sorted(path for path in layout.root.glob(f"{ASIDE}*") if path.is_dir())


def set_aside(layout: Layout, now: dt.datetime) -> Path:
    """Set the node's data aside; gives where they are. Raises OSError."""
    kept = layout.root / f"{ASIDE}{now:%Y%m%dT%H%M%S.%fZ}"
    _rename(layout.pgdata, kept)
    return kept


def put_back(layout: Layout) -> bool:
    """Make the data that were set aside last the node's data again, unless it has some."""
    kept = asides(layout)
    if has_data(layout) or not kept:
        return False
    remove_tree(layout.pgdata)  # at most an empty directory
    _rename(kept[-1], layout.pgdata)
    return True


def discard(layout: Layout) -> None:
    """Delete what is set aside. What is half deleted never has the name of kept data."""
    for path in asides(layout):
        _rename(path, layout.root / path.name.replace(ASIDE, DISCARDED))
    remove_discarded(layout)


def remove_discarded(layout: Layout) -> None:
    """Finish a deletion that a crash interrupted."""
    for path in layout.root.glob(f"{DISCARDED}*"):
        remove_tree(path)


def _rename(old: Path, new: Path) -> None:
    old.rename(new)
    sync_directory(new.parent)

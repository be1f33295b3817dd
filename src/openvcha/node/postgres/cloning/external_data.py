"""What PostgreSQL keeps outside of its node's directory, where nobody clones it."""

from pathlib import Path

from openvcha.node.layout import Layout


def data_elsewhere(layout: Layout) -> tuple[Path, ...]:
    """Find data, write-ahead log and tablespaces that are links to another place."""
    tablespaces = sorted((layout.pgdata / "pg_tblspc").glob("*"))
    places = (layout.pgdata, layout.pgdata / "pg_wal", *tablespaces)
    home = layout.root.resolve()
    found = (place.resolve() for place in places if place.is_symlink())
    return tuple(place for place in found if not place.is_relative_to(home))

"""PostgreSQL data outside the node's directory, which no base backup may contain."""

from pathlib import Path

from openvcha.node.layout import Layout


def find_external_data(layout: Layout) -> tuple[Path, ...]:
    """Return the data directory, WAL directory and tablespaces that are links."""
    tablespaces = sorted((layout.pgdata / "pg_tblspc").glob("*"))
    places = (layout.pgdata, layout.pgdata / "pg_wal", *tablespaces)
    home = layout.root.resolve()
    found = (place.resolve() for place in places if place.is_symlink())
    return tuple(place for place in found if not place.is_relative_to(home))

"""Whether a node has what it needs to continue alone: data and a store.

The command checks this before it asks other nodes, and the node again before it acts.
"""

from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.postgres.cloning.clone import has_data
from openvcha.node.postgres.cloning.data_backup import list_backups

WITNESS = "it is a witness: it has no data to continue with"


def missing_data(identity: Identity, layout: Layout) -> str | None:
    """Return why the node has no data to continue with; None if it has some, even in a backup."""
    if not identity.holds_data:
        return WITNESS
    if not has_data(layout) and not list_backups(layout):
        return f"{layout.pgdata} has no data, and no data are set aside"
    return None


def missing_store(layout: Layout) -> str | None:
    """Return why the node has no store to continue with; None if it has a member's data."""
    held = (layout.etcd_data / "member").is_dir()
    return None if held else f"there is no store in {layout.etcd_data}"

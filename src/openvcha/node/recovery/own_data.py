"""Whether a node has what it needs to go on alone: data, and a store.

The command looks before it asks anybody, and the node again before it does anything.
"""

from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.postgres.cloning.clone import has_data
from openvcha.node.postgres.cloning.data_backup import list_backups

WITNESS = "it is a witness: it has no data to continue with"


def why_no_data(identity: Identity, layout: Layout) -> str | None:
    """Return why the node has no data to continue with; None: it has some, perhaps set aside."""
    if not identity.holds_data:
        return WITNESS
    if not has_data(layout) and not list_backups(layout):
        return f"{layout.pgdata} has no data, and no data are set aside"
    return None


def why_no_store(layout: Layout) -> str | None:
    """Return why no store can be made of what the node has; None: it has a member's."""
    held = (layout.etcd_data / "member").is_dir()
    return None if held else f"there is no store in {layout.etcd_data}"

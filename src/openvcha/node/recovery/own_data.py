"""Whether a node has what it needs to continue alone: data and a store.

The command checks this before it asks other nodes, and the node again before it acts.
"""

from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.postgres.standby_data.base_backup import has_data
from openvcha.node.postgres.standby_data.old_data import list_old_data

WITNESS = "it is a witness: it has no data to continue with"


def missing_data(identity: Identity, layout: Layout) -> str | None:
    """Return why the node has no data to continue with; None if it has some, even set aside."""
    if not identity.holds_data:
        return WITNESS
    if not has_data(layout) and not list_old_data(layout):
        return f"{layout.pgdata} has no data, and no data are set aside"
    return None


def missing_store(layout: Layout) -> str | None:
    """Return why the node has no store to continue with; None if it has a member's data."""
    held = (layout.etcd_data / "member").is_dir()
    return None if held else f"there is no store in {layout.etcd_data}"

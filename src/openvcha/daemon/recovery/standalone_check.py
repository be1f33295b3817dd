"""The check of all other nodes before this one becomes stand-alone."""

import datetime as dt

from openvcha.api.structures import ConfigState
from openvcha.cluster.config import cluster_record
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout
from openvcha.node.process.status import Contact, LocalRole, NodeStatus, OwnView
from openvcha.node.recovery import standalone_rules
from openvcha.node.recovery.survey import Survey, survey
from openvcha.node.security.tls import NodeTls
from openvcha.node.store_access import open_store

NEVER = "1970-01-01T00:00:00+00:00"


def own_view(status: NodeStatus | None, *, runs: bool) -> OwnView | None:
    """Return the node's own view: None if it is off, STARTING before its first observation."""
    if not runs:
        return None
    starting = OwnView(role=LocalRole.UNKNOWN, contact=Contact.STARTING, since=NEVER)
    return (status.view if status else None) or starting


async def ask_all(layout: Layout, identity: Identity, view: OwnView | None) -> Survey:
    """Ask all known nodes, and the public address if the node itself cannot hold it."""
    public = standalone_rules.must_ask_public(view, dt.datetime.now(dt.UTC))
    return await survey(identity, layout, NodeTls(layout), public=public)


async def check_standalone(layout: Layout, found: Survey) -> str | None:
    """Return why the node must not become stand-alone; None if there is no known reason.

    Raises StoreError if its own store cannot be read.
    """
    if reason := standalone_rules.standalone_refusal(found):
        return reason
    if standalone_rules.has_own_quorum(found) and await _is_first_node(layout):
        return "it is already stand-alone"
    return None


async def _is_first_node(layout: Layout) -> bool:
    async with open_store(layout.root) as store:
        config = await cluster_record(store).get()
    return config is None or config.state is ConfigState.NOTCONFIGURED

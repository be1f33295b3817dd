"""Stopping PostgreSQL on a node that is no longer a member of its cluster.

A node that was frozen while it was replaced resumes with all of its programs. The store has removed
it, but Patroni and PostgreSQL would continue: to stream, to serve reads, and eventually to lead.

A member counts as this node by its peer address, as for Patroni (``node/patroni/patches/members``):
any voter may announce this node's name.
"""

import asyncio

from openvcha.node.background.cluster_records import LIST_SECONDS
from openvcha.node.background.context import NodeContext, is_listed
from openvcha.node.process.process_tree import is_postgres, kill_tree
from openvcha.store.errors import StoreError

NAME = "expelled"
POLL_SECONDS = 1.0
MAX_LIST_AGE_SECONDS = LIST_SECONDS + 2.5
"""How old a list of members may be; another job reads it too, and again each second once it lacks
this node. Shorter than the grace: a node that was frozen for longer than that is not fooled."""
GRACE_SECONDS = 10.0
"""A live node that is removed is released first: ending it at once would block commits."""
PARTS = ("service", "api", "patroni")
"""Clients first: to them this node represents the cluster."""


async def watch_expulsion(context: NodeContext) -> None:
    """Watch until canceled. A witness has nothing to stop: its etcd member exits by itself.

    Timers keep running while a process is frozen. So this checks right after a resume, when the
    last list with this node is already too old.
    """
    if not context.identity.holds_data:
        await asyncio.Event().wait()
    await context.control.ready.wait()
    clock = asyncio.get_running_loop().time
    listed = clock()
    while True:
        began, gone = await _observe(context, clock())
        if gone is False:
            listed = began
        elif gone and began - listed >= GRACE_SECONDS:
            await _end(context)
        await asyncio.sleep(POLL_SECONDS)


async def _observe(context: NodeContext, now: float) -> tuple[float, bool | None]:
    """Return when an observation began, and its result; one from before a freeze is too old."""
    seen = context.control.members
    if seen is not None and now - seen.began < MAX_LIST_AGE_SECONDS:
        return seen.began, not is_listed(context, seen.members)
    return now, await is_expelled(context)


async def is_expelled(context: NodeContext) -> bool | None:
    """Return whether a majority no longer lists this node; None without a majority.

    One observation is enough: the members agree on the list.
    """
    try:
        members = await context.store.members()
    except StoreError:
        return None
    return not is_listed(context, members)


async def _end(context: NodeContext) -> None:
    """Kill PostgreSQL at once, stop the parts that would restart it, then kill what is left."""
    context.control.tell(
        NAME, "this node was removed from its cluster; stopping its database and service"
    )
    await _kill_postgres(context)
    for part in PARTS:
        await context.control.halt(part)
    await _kill_postgres(context)


async def _kill_postgres(context: NodeContext) -> None:
    await asyncio.to_thread(
        kill_tree, context.layout.root, which=lambda process: is_postgres(process.argv)
    )

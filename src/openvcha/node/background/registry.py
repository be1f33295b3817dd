"""The background jobs of a supervisor, each independent of the others."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from openvcha.node.background.connectivity import observe_connectivity
from openvcha.node.background.context import RETRY_SECONDS, NodeContext, report_health
from openvcha.node.background.expulsion import watch_expulsion
from openvcha.node.background.facts import FactsPublisher, PostgresSurvey, gather_facts
from openvcha.node.background.orphans import end_orphans
from openvcha.node.background.rejoin import rejoin
from openvcha.node.background.required_votes import keep_required_votes
from openvcha.node.background.rotation_runner import run_rotations
from openvcha.node.background.space_keeper import keep_space
from openvcha.node.etcd.member import client_url
from openvcha.node.process.backoff import Backoff
from openvcha.node.process.supervised_loop import run_forever
from openvcha.store.errors import StoreError
from openvcha.system.repeating import repeat

__all__ = ["ALL_JOBS", "BackgroundJob", "NodeContext", "follow_members", "run_jobs"]

REFRESH_SECONDS = 30.0
PROBE_SECONDS = 1.0

BackgroundJob = Callable[[NodeContext], Awaitable[None]]
"""Runs until canceled; restarted when it ends or fails."""


async def follow_members(context: NodeContext) -> None:
    """Refresh the store's endpoints: otherwise a node would know no live one after redeploys.

    The node's own member is asked first, once it has a quorum: while it starts, others are. So each
    member serves its own node.
    """
    store, own = context.store, client_url(context.identity)

    async def refresh() -> None:
        if (await store.refresh_endpoints())[0] != own and await store.healthy(own, PROBE_SECONDS):
            store.prefer(own)

    def failed(reason: str) -> None:
        context.events.debug("cannot refresh the members", reason=reason)

    await repeat(refresh, REFRESH_SECONDS, transient=(StoreError,), failed=failed)


async def publish_facts(context: NodeContext) -> None:
    """Publish the node's facts, from which the active derives the cluster's health."""
    gather = partial(gather_facts, context.identity, context.layout, context.engines)
    member, events = context.identity.member, context.events
    if not context.identity.holds_data:
        await FactsPublisher(context.store, member, gather, events).run()
        return
    # Imported here: it would slow down every start of a node.
    from openvcha.node.background.access_repair import AccessRepair, NodePasswords  # noqa: PLC0415
    from openvcha.node.postgres.superuser import Superuser  # noqa: PLC0415

    superuser = Superuser(context.layout, context.identity.ports.postgres)
    async with AccessRepair(
        superuser, context.identity.ha_address, NodePasswords(context), events
    ) as access:

        async def survey() -> PostgresSurvey:
            return await access.survey() if context.control.ready.is_set() else PostgresSurvey()

        await FactsPublisher(context.store, member, gather, events, survey=survey).run()


ALL_JOBS: Mapping[str, BackgroundJob] = {
    "members": follow_members,
    "expelled": watch_expulsion,
    "facts": publish_facts,
    "rejoin": rejoin,
    "orphans": end_orphans,
    "view": observe_connectivity,
    "room": keep_space,
    "required votes": keep_required_votes,
    "renewal": run_rotations,
}


async def run_jobs(context: NodeContext, jobs: Mapping[str, BackgroundJob] = ALL_JOBS) -> None:
    """Run all jobs until canceled; a failing job does not affect the others."""
    async with asyncio.TaskGroup() as group:
        for name, job in jobs.items():
            backoff = Backoff(first=RETRY_SECONDS)
            work = run_forever(
                name,
                partial(job, context),
                context.events,
                report_health=report_health(context.control),
                backoff=backoff,
            )
            group.create_task(work, name=f"job {name}")

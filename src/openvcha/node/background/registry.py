"""The background jobs of a supervisor, each independent of the others."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from openvcha.node.background.connectivity import see
from openvcha.node.background.context import DutyView
from openvcha.node.background.expulsion import leave
from openvcha.node.background.facts import FactsPublisher, Look, look
from openvcha.node.background.orphans import end_orphans
from openvcha.node.background.rejoin import rejoin
from openvcha.node.background.rotation_runner import renew
from openvcha.node.background.store_space import keep_room
from openvcha.node.background.task_votes import heed
from openvcha.node.process.backoff import Backoff
from openvcha.node.process.supervised_loop import for_ever
from openvcha.store.errors import StoreError
from openvcha.store.repeating import repeat

__all__ = ["ALL_DUTIES", "Duty", "DutyView", "carry_out", "follow_members"]

REFRESH_SECONDS = 15.0
RETRY_SECONDS = 1.0


Duty = Callable[[DutyView], Awaitable[None]]
"""Runs until canceled; restarted when it ends or fails."""


async def follow_members(view: DutyView) -> None:
    """Refresh the store's endpoints: else a node whose peers were replaced knows no live one."""

    async def refresh() -> None:
        await view.store.refresh_endpoints()

    def failed(reason: str) -> None:
        view.events.debug("cannot refresh the members", reason=reason)

    await repeat(refresh, REFRESH_SECONDS, passing=(StoreError,), failed=failed)


async def tell_facts(view: DutyView) -> None:
    """Publish the node's facts, from which the active derives the cluster's health."""
    gather = partial(look, view.identity, view.layout, view.engines)
    member, events = view.identity.member, view.events
    if not view.identity.holds_data:
        await FactsPublisher(view.store, member, gather, events).run()
        return
    # Imported late: it would slow down every start of a node.
    from openvcha.node.background.access_repair import Access, NodePasswords  # noqa: PLC0415
    from openvcha.node.postgres.superuser import Superuser  # noqa: PLC0415

    superuser = Superuser(view.layout, view.identity.ports.postgres)
    async with Access(superuser, view.identity.ha_address, NodePasswords(view), events) as access:

        async def survey() -> Look:
            return await access.look() if view.control.ready.is_set() else Look()

        await FactsPublisher(view.store, member, gather, events, survey=survey).run()


ALL_DUTIES: Mapping[str, Duty] = {
    "members": follow_members,
    "expelled": leave,
    "facts": tell_facts,
    "rejoin": rejoin,
    "orphans": end_orphans,
    "view": see,
    "room": keep_room,
    "votes that a task needs": heed,
    "renewal": renew,
}


async def carry_out(view: DutyView, duties: Mapping[str, Duty] = ALL_DUTIES) -> None:
    """Run all jobs until canceled; one that fails does not affect the others."""

    def told(name: str, reason: str | None) -> None:
        text = f"was interrupted and is being retried: {reason}"
        view.control.tell(f"duty {name}", None if reason is None else text)

    async with asyncio.TaskGroup() as group:
        for name, duty in duties.items():
            backoff = Backoff(first=RETRY_SECONDS)
            work = for_ever(name, partial(duty, view), view.events, told=told, backoff=backoff)
            group.create_task(work, name=f"duty {name}")

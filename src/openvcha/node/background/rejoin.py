"""Repair of a stuck standby: it sets its data aside and takes a new base backup.

Patroni rewinds a former primary by itself. What it cannot repair (no rewind possible, WAL that the
primary has removed, corrupt files) it retries forever.
"""

import asyncio
import datetime as dt
import shutil
from collections.abc import Awaitable, Callable

from openvcha.node.background.context import NodeContext
from openvcha.node.background.expulsion import is_expelled
from openvcha.node.background.standby_progress import (
    RETRY_BASE_BACKUP_SECONDS,
    StandbyObservation,
    StandbyWatch,
    observe_standby,
)
from openvcha.node.identity import load_secrets
from openvcha.node.layout import Layout
from openvcha.node.postgres.diagnosis.start_failures import find_trouble
from openvcha.node.postgres.leader import BaseBackupFailed, Leader, find_leader
from openvcha.node.postgres.standby_data.base_backup import SPARE_BYTES, has_data, remove_tree
from openvcha.node.postgres.standby_data.old_data import (
    discard_old_data,
    list_old_data,
    remove_discarded,
    restore_old_data,
    set_data_aside,
)
from openvcha.node.process.process_tree import find_tree, is_postgres, kill_tree
from openvcha.store import keys
from openvcha.store.errors import StoreError

POLL_SECONDS = 2.0
MAX_RECORDS_AGE_SECONDS = 2.5
"""How old the records of the node's observation may be, which reads them every two seconds."""
NAME = "rejoin"


async def rejoin(context: NodeContext) -> None:
    """Watch the standby until canceled; return at once on a witness."""
    if not context.identity.holds_data:
        await asyncio.Event().wait()
    await context.control.ready.wait()
    await asyncio.to_thread(remove_discarded, context.layout)
    await Rejoin(context).run()


class Rejoin:
    """The watch of one node. ``free_bytes`` returns the free space of its file system."""

    def __init__(
        self,
        context: NodeContext,
        *,
        free_bytes: Callable[[Layout], int] = lambda layout: shutil.disk_usage(layout.root).free,
    ) -> None:
        self._context = context
        self._layout = context.layout
        self._stuck_seconds = context.identity.timers.stuck_standby
        self._clock = asyncio.get_running_loop().time
        self._free_bytes = free_bytes
        self._not_before = self._clock()

    async def run(self) -> None:
        """Watch until canceled, and act if the standby is stuck."""
        watch = StandbyWatch(self._clock())
        while True:
            before = self._not_before
            observation = self._seen_well() or await self._observe()
            if observation is not None:
                await self._judge(observation, watch.quiet_seconds(observation, self._clock()))
            if observation is None or self._not_before != before:
                # Nothing is known, or all observations are of data that have been replaced.
                watch = StandbyWatch(self._clock())
            await asyncio.sleep(POLL_SECONDS)

    def _seen_well(self) -> StandbyObservation | None:
        """Return the node's last observation if it is fresh and nothing is wrong; None otherwise.

        It spares the store a request: most standbys are well most of the time.
        """
        seen = self._context.control.records
        if seen is None or self._clock() - seen.began >= MAX_RECORDS_AGE_SECONDS:
            return None
        found = observe_standby(self._context.identity.member, seen.values.values(), ())
        return found if found.well else None

    async def _observe(self) -> StandbyObservation | None:
        """Return an observation; None if the store does not respond."""
        own = self._context.identity.member
        try:
            found = await self._context.store.prefix(keys.PATRONI)
        except StoreError:
            return None
        observation = observe_standby(own, found, ())
        if observation.well or observation.source is None:
            return observation
        return await asyncio.to_thread(
            lambda: observe_standby(own, found, find_tree(self._layout.root))
        )

    async def _judge(self, observation: StandbyObservation, quiet: float) -> None:
        if observation.in_sync and list_old_data(self._layout):
            await asyncio.to_thread(discard_old_data, self._layout)
            self._context.events.info("the new copy is in sync; the old data are deleted")
        if observation.well or observation.source is None:
            self._tell(None)
            return
        if quiet >= self._quiet_limit() and self._clock() >= self._not_before:
            await self._replace_data(observation.source, quiet)

    def _quiet_limit(self) -> float:
        """Return for how many seconds a standby may be quiet; 0 if its data are set aside."""
        if not list_old_data(self._layout):
            return self._stuck_seconds
        return RETRY_BASE_BACKUP_SECONDS if has_data(self._layout) else 0.0

    async def _replace_data(self, source: str, quiet: float) -> None:
        """Take a base backup if another node runs as primary and there is room for both data."""
        if await is_expelled(self._context) is not False:
            return
        try:
            leader = await self._leader(source)
            self._require_room(leader)
        except BaseBackupFailed as error:
            self._tell(f"the standby is stuck, and cannot be copied again: {error}")
            return
        self._not_before = self._clock() + self._stuck_seconds
        known = await asyncio.to_thread(find_trouble, self._layout.logs)
        why = f" ({known.reason})" if known else ""
        self._tell(
            f"the standby has been stuck for {quiet:.0f} s{why}; its data are being copied again"
        )
        await self._context.control.halt("patroni")
        try:
            await asyncio.to_thread(_end_postgres, self._layout)
            again = await self._observe()
            # Stopping PostgreSQL took time; the condition must hold right now.
            if again is not None and again.source == source:
                await self._take_base_backup()
        except Exception:
            self._resume()
            raise
        self._resume()

    def _resume(self) -> None:
        # Without data, Patroni would initialize a new cluster: then it stays stopped.
        if has_data(self._layout):
            self._context.control.begin("patroni")

    async def _take_base_backup(self) -> None:
        if has_data(self._layout):
            kept = await asyncio.to_thread(set_data_aside, self._layout, dt.datetime.now(dt.UTC))
            self._context.events.warning(
                "set aside the data of a stuck standby", directory=kept.name
            )
        if await base_backup_or_restore(self._layout, self._context.control.base_backup):
            self._tell(
                "the data were copied again; the old ones are kept until the copy is in sync"
            )
        else:
            self._tell("the data could not be copied again; the old ones were restored")
            self._not_before = self._clock() + RETRY_BASE_BACKUP_SECONDS

    async def _leader(self, source: str) -> Leader:
        context = self._context
        secrets = load_secrets(self._layout.root)
        leader = await find_leader(context.store, self._layout, secrets, context.engines.postgres)
        if leader.member != source:
            raise BaseBackupFailed("the primary has just changed", temporary=True)
        return leader

    def _require_room(self, leader: Leader) -> None:
        needed, free = leader.data_bytes + SPARE_BYTES, self._free_bytes(self._layout)
        if free < needed:
            raise BaseBackupFailed(
                f"the disk must hold the old data and a copy: {needed} bytes are needed,"
                f" {free} are free",
                temporary=True,
            )

    def _tell(self, text: str | None) -> None:
        self._context.control.tell(NAME, text)


async def base_backup_or_restore(layout: Layout, take: Callable[[], Awaitable[bool]]) -> bool:
    """Take a base backup, and return whether that succeeded; if not, restore the old data."""
    if await take():
        return True
    await asyncio.to_thread(remove_tree, layout.incomplete_base_backup)
    await asyncio.to_thread(restore_old_data, layout)
    return False


def _end_postgres(layout: Layout) -> None:
    """Kill the PostgreSQL processes that Patroni could not stop."""
    kill_tree(layout.root, which=lambda process: is_postgres(process.argv))

"""The copy on disk of what the node knows of its cluster, for when the cluster is unavailable."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

from openvcha.node.background.context import NodeContext, is_listed
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import (
    KeptCluster,
    MajorityView,
    configured_nodes,
    keep,
    known_nodes,
    load_kept,
    save_kept,
)
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.sealing.seal import unverified

KEEP_SECONDS = 15.0
"""How stale the time of the last contact may be on disk; other changes are written at once."""
ASK_SECONDS = 2.0


class MembershipCache:
    """A writer of the newest state; a slow disk delays nothing else."""

    def __init__(
        self,
        context: NodeContext,
        *,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        save: Callable[[Layout, KeptCluster], Awaitable[None]] | None = None,
    ) -> None:
        self._context = context
        self._now = now
        self._save = save or _save
        self._clock = asyncio.get_running_loop().time
        self._kept = load_kept(context.layout, context.identity)
        self._led = _led(self._kept)
        self._full: frozenset[int] = frozenset()
        self._outline: tuple[object, ...] = ()
        self._written = self._clock()
        self._newest: tuple[MajorityView, str] | None = None
        self._news = asyncio.Event()
        self._shown = ""

    def note(self, known: MajorityView) -> None:
        """Queue the state that a quorum has just confirmed."""
        seen = self._now().isoformat(timespec="seconds")
        if known.leader not in {None, self._context.identity.member}:
            self._led = {"last_leader": known.leader, "last_led": seen}
        self._newest = (known, seen)
        self._news.set()

    async def run(self) -> None:
        """Write until canceled."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._newest and self._due(self._newest[0]):
                await self._write(*self._newest)

    def _due(self, known: MajorityView) -> bool:
        return known.outline != self._outline or self._clock() - self._written >= KEEP_SECONDS

    async def _write(self, known: MajorityView, seen: str) -> None:
        store, configured = await self._asked()
        # Not by its name alone: any voter may announce it.
        listed = is_listed(self._context, known.members)
        kept = keep(
            self._context.identity,
            known,
            configured,
            seen=seen,
            listed=listed,
            **store,
            **self._led,
        )
        try:
            await self._save(self._context.layout, kept)
        except OSError as error:
            self._tell(f"what this node knows of the cluster cannot be stored: {error}")
            return
        self._tell("")
        self._context.control.tell("space", self._space(known))
        self._kept, self._outline, self._written = kept, known.outline, self._clock()

    async def _asked(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the rest from the store; if it no longer responds, return the last values."""
        store = self._context.store
        before = _store_of(self._kept), known_nodes(self._kept)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                record = await store.get(keys.CLUSTER)
                status = await store.status(store.endpoints[0])
                full = status.full  # a member knows of each other's alarm, too
                self._full = await store.members_without_space() if full else frozenset()
        except (StoreError, TimeoutError):
            return before
        found = {"store_id": f"{status.cluster_id:x}", "revision": status.revision}
        configured = configured_nodes(unverified(record.value) if record else None)
        return found, before[1] if configured is None else configured

    def _space(self, known: MajorityView) -> str | None:
        if not self._full:
            return None
        names = ", ".join(one.name or str(one.id) for one in known.members if one.id in self._full)
        return (
            f"the store is full (etcd alarm NOSPACE on {names}): nobody can log in, change"
            " anything or become the leader. Run `vcha node store defragment DIRECTORY` on"
            " a data node to free space; see docs/recovery.md (The store is full)"
        )

    def _tell(self, text: str) -> None:
        if text and text != self._shown:
            self._context.events.warning(text)
        self._shown = text


async def _save(layout: Layout, kept: KeptCluster) -> None:
    await asyncio.to_thread(save_kept, layout, kept)


def _led(kept: KeptCluster | None) -> dict[str, str | None]:
    if kept is None:
        return {}
    return {"last_leader": kept.last_leader, "last_led": kept.last_led}


def _store_of(kept: KeptCluster | None) -> dict[str, Any]:
    if kept is None:
        return {"store_id": "", "revision": 0}
    return {"store_id": kept.store_id, "revision": kept.revision}

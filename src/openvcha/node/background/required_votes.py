"""The copy on disk of the required votes, as the running task recorded them in the store.

The task writes one record before it changes a vote, and waits until the nodes confirm that they
have stored it: then any of them can power on the others if the store has stopped.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from openvcha.node.background.cluster_records import announce_changes
from openvcha.node.background.context import NodeContext
from openvcha.node.layout import Layout
from openvcha.node.local_records.required_votes import (
    RequiredVotes,
    decode_required_votes,
    forget_required_votes,
    is_list,
    kept,
    load_required_votes,
    not_kept_reply,
    save_required_votes,
)
from openvcha.node.process.logs import Logger
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.interface import KeyValue, Store
from openvcha.store.sealing.seal import RESERVED, unverified

POLL_SECONDS = 4.0
"""While there is a list, or something could not be done."""
IDLE_SECONDS = 20.0
"""Otherwise: what the watch misses, the node's observation of its cluster notices."""
ASK_SECONDS = 4.0
NOTHING = b""
"""The confirmation that there is no list: the key does not exist."""
CONFIRM_SECONDS = 30.0
"""How stale the time of the last confirmation may be on disk."""


@dataclass(frozen=True)
class RequiredVotesFile:
    """A node's file of the list. ``save`` and ``forget`` raise OSError."""

    load: Callable[[], RequiredVotes | None]
    save: Callable[[RequiredVotes, dt.datetime], None]
    forget: Callable[[], None]


def required_votes_file(layout: Layout) -> RequiredVotesFile:
    """Return the file in a node's directory."""
    return RequiredVotesFile(
        partial(load_required_votes, layout),
        partial(save_required_votes, layout),
        partial(forget_required_votes, layout),
    )


async def keep_required_votes(context: NodeContext) -> None:
    """Follow the record in the store until canceled."""
    await RequiredVotesKeeper(
        context.store,
        required_votes_file(context.layout),
        context.identity.member,
        context.events,
        news=context.control.votes_changed,
    ).run()


class RequiredVotesKeeper:
    """A job that follows the record, and confirms which revision of it is on disk."""

    def __init__(
        self,
        store: Store,
        file: RequiredVotesFile,
        member: str,
        log: Logger,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        *,
        news: asyncio.Event | None = None,
    ) -> None:
        """``news`` is set by others too, when the record has changed."""
        self._store = store
        self._file = file
        self._member = member
        self._log = log
        self._now = now
        self._news = news or asyncio.Event()
        # The confirmation in the store; None while that is unknown.
        self._confirmed: bytes | None = None
        self._shown = ""

    async def run(self) -> None:
        """Check at every change, and periodically as well: a watch may hang."""
        watch = announce_changes(self._store, keys.REQUIRED_VOTES, self._news)
        watching = asyncio.create_task(watch, name="watch of the required votes")
        try:
            while True:
                await self.run_once()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._news.wait()
                self._news.clear()
                if watching.done():
                    watching.result()  # it ends only with an unexpected error
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    def _pause(self) -> float:
        return IDLE_SECONDS if self._confirmed == NOTHING else POLL_SECONDS

    async def run_once(self) -> None:
        """Check once; change nothing if the record is unreadable or unavailable."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._apply(await self._store.get(keys.REQUIRED_VOTES))
        except (StoreError, TimeoutError) as error:
            self._log.debug("cannot read the required votes", reason=str(error))
        except msgspec.DecodeError as error:
            self._tell(f"cannot store the required votes: {error}")

    async def _apply(self, found: KeyValue | None) -> None:
        if found is not None and found.value == RESERVED:
            return  # the key was only just reserved
        required_votes = decode_required_votes(unverified(found.value)) if found else None
        # A node that is not listed has been replaced: it must not act on the list.
        if required_votes is None or self._member not in required_votes.nodes:
            await self._change_and_confirm(0, NOTHING, self._file.forget)
        elif found is not None:
            revision = found.mod_revision
            await self._change_and_confirm(
                revision, kept(revision), partial(self._keep, required_votes)
            )

    async def _change_and_confirm(
        self, revision: int, said: bytes, change: Callable[[], None]
    ) -> None:
        """Change the file, then confirm it or report why that failed."""
        try:
            await asyncio.to_thread(change)
        except OSError as error:
            self._tell(f"cannot store the required votes: {error}")
            # The list is on disk already; only its time could not be updated.
            if self._confirmed != kept(revision):
                await self._confirm(not_kept_reply(revision, error))
        else:
            self._tell("")
            await self._confirm(said)

    def _keep(self, required_votes: RequiredVotes) -> None:
        now, known = self._now(), self._file.load()
        if known is None or not is_list(known, required_votes) or not _recent(known.seen, now):
            self._file.save(required_votes, now)

    async def _confirm(self, said: bytes) -> None:
        """Write the confirmation; only after the change, since the task relies on it."""
        if said == self._confirmed:
            return
        self._confirmed = None  # a lost reply leaves it unknown whether the key was written
        key = keys.required_votes_confirmed(self._member)
        if said:
            await self._store.put(key, said)
        else:
            await self._store.delete(key)
        self._confirmed = said

    def _tell(self, text: str) -> None:
        if text and text != self._shown:
            self._log.warning(text)
        self._shown = text


def _recent(seen: str, now: dt.datetime) -> bool:
    try:
        age = (now - dt.datetime.fromisoformat(seen)).total_seconds()
    except (ValueError, TypeError):
        return False
    return abs(age) < CONFIRM_SECONDS

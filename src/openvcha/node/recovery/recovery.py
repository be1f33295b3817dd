"""How a node's supervisor carries out a recovery request, before the node's parts start.

It deletes the request only when everything is done. So it runs again after a crash at any point.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import client_url, is_healthy, peer_url
from openvcha.node.identity import Identity, save_identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import forget_others
from openvcha.node.local_records.required_votes import forget_required_votes
from openvcha.node.local_records.sealed_records import forget_kept
from openvcha.node.postgres.standby_data.base_backup import remove_tree
from openvcha.node.postgres.standby_data.old_data import restore_old_data
from openvcha.node.process.managed_process import Part
from openvcha.node.recovery.own_data import WITNESS, missing_data, missing_store
from openvcha.node.recovery.request import (
    POLL_SECONDS,
    RecoveryRequest,
    RequestKind,
    expiry,
    finish,
    load_request,
    mark_begun,
)
from openvcha.node.recovery.standalone_rules import is_separated, standalone_refusal
from openvcha.node.recovery.survey import survey
from openvcha.node.security.tls import NodeTls
from openvcha.node.store_access import sealed_store
from openvcha.store.errors import StoreError, StoreUnavailable
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import StoreWithAccounts
from openvcha.system.files.durable import write_private
from openvcha.system.proc import boot_id
from openvcha.system.silence import SILENCE_SECONDS, Silence, prolonged

FORCE_SECONDS = 60.0
ELECTION_SECONDS = 4.0
"""The node's own member needs 1 to 2 s to find a quorum, rarely a second round."""
POLL_PAUSE_SECONDS = 1.0
ALONE_SECONDS = 120.0
"""How long the others may be asked: on a busy machine the probes have gaps, and prove nothing."""
FORCE_FLAG = "--force-new-cluster"

WITHDRAWN = "it was withdrawn"
WAITING = (
    f"waiting until all other nodes have been silent for {SILENCE_SECONDS:g} s; withdraw it with"
    " `vcha node make-standalone --cancel`"
)
BUSY = (
    f"whether the others were silent for {SILENCE_SECONDS:g} s is unknown after"
    f" {ALONE_SECONDS:g} s of asking; this machine may be busy: try again"
)
STOPPED = (
    "the node was stopped first; the change will be made when it starts, within 10 min of the"
    " request; to withdraw it, use `vcha node make-standalone --cancel`"
)
UNFINISHED = (
    "the store is, or may be, separated from the others already: the node stays down and retries"
    " until this is finished; never start the others"
)

DOWN = "the node stays down and retries until it is recorded"

Rewrite = Callable[[StoreWithAccounts, Identity], Awaitable[None]]
"""Makes the cluster stand-alone in a store of one member; idempotent."""


class RecoveryOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a request; ``error`` is None on success.

    ``unfinished``: the request stays, and the node's parts must not start before it is finished.
    """

    id: str
    error: str | None = None
    unfinished: bool = False


class RecoveryFailed(Exception):  # noqa: N818 - the outcome of a request, not a defect
    """A request failed; nothing that is in use was changed."""


class _NotSeparated(RecoveryFailed):
    """A request failed, and the store is certainly not separated."""


class _Unfinished(Exception):  # noqa: N818 - as above
    """A request stays: the store is, or may be, separated, or the node was stopped meanwhile."""


_FAILURES = (RecoveryFailed, StoreError, OSError, LookupError)


def outcome_path(layout: Layout) -> Path:
    """Return the path of the last request's outcome."""
    return layout.run / "recovery.json"


def load_outcome(layout: Layout) -> RecoveryOutcome | None:
    """Return the last request's outcome; None if it is missing or unreadable."""
    try:
        return msgspec.json.decode(outcome_path(layout).read_bytes(), type=RecoveryOutcome)
    except (OSError, msgspec.DecodeError):
        return None


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _untold(_: str) -> None:
    """Discard the text."""


@dataclass(frozen=True)
class Recovery:
    """The execution of requests on a node with no running parts.

    ``etcd_with`` returns the part that runs etcd, with extra flags; ``tell`` gets what it waits
    for; ``boot`` returns the id of the machine's boot; ``stop`` is set when the node is to stop.
    """

    identity: Identity
    layout: Layout
    etcd_with: Callable[..., Part]
    rewrite: Rewrite
    tell: Callable[[str], None] = _untold
    now: Callable[[], dt.datetime] = _now
    boot: Callable[[], str] = boot_id
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def carry_out(self, request: RecoveryRequest) -> RecoveryOutcome:
        """Run a request, write its outcome, and delete the request unless it is unfinished."""
        error = None
        try:
            await self._do(request)
        except _Unfinished as failed:
            return self._unfinished(request, str(failed))
        except _FAILURES as failed:
            error = str(failed)
        outcome = RecoveryOutcome(id=request.id, error=error)
        try:
            newer = self._conclude(request, outcome)
        except OSError as failed:
            return self._unfinished(request, f"the outcome cannot be recorded: {failed}; {DOWN}")
        # The sender of a newer request waits for its own outcome.
        return outcome if newer is None else await self.carry_out(newer)

    def _conclude(
        self, request: RecoveryRequest, outcome: RecoveryOutcome
    ) -> RecoveryRequest | None:
        """Write the outcome and delete the request; return a newer one. Raises OSError.

        A refusal is valid without its record: nothing was changed, so the node may start.
        """
        try:
            self._write(outcome)
        except OSError:
            if outcome.error is None:
                raise
        return finish(self.layout, request)

    def _unfinished(self, request: RecoveryRequest, error: str) -> RecoveryOutcome:
        outcome = RecoveryOutcome(id=request.id, error=error, unfinished=True)
        with contextlib.suppress(OSError):  # the disk may be full, which may be the reason
            self._write(outcome)
        return outcome

    def _write(self, outcome: RecoveryOutcome) -> None:
        write_private(outcome_path(self.layout), msgspec.json.encode(outcome))

    async def _do(self, request: RecoveryRequest) -> None:
        if not self.identity.holds_data:
            raise RecoveryFailed(WITNESS)
        if request.wish is RequestKind.RESTORE:
            await asyncio.to_thread(self._restore)
            return
        begun = request.begun
        try:
            await self._require_alone(request)
            await asyncio.to_thread(self._restore)
            self._begin(request)
            begun = True
            await self._stand_alone()
        except _NotSeparated:
            raise
        except _FAILURES as failed:
            if not begun:
                raise
            raise _Unfinished(f"{failed}; {UNFINISHED}") from failed

    def _begin(self, request: RecoveryRequest) -> None:
        self._require_running()
        # Otherwise VMs that are gone for good would be powered on while the store is down.
        forget_required_votes(self.layout)
        if not mark_begun(self.layout, request):
            raise _NotSeparated(WITHDRAWN)

    async def _require_alone(self, request: RecoveryRequest) -> None:
        """Require that no other node responds: some may have returned since the command asked.

        The node's own etcd runs meanwhile, unchanged: it names the members that it knows, and finds
        a quorum if there is one. Once it is separated it has its own quorum, and stopping here
        would leave a single node with the records of a larger cluster.
        """
        if not request.begun and (reason := self._void()):
            raise _NotSeparated(reason)
        self._require_store()
        part = self.etcd_with()
        part.begin()
        try:
            tls = NodeTls(self.layout)
            await self._settled(tls, FORCE_SECONDS if request.begun else ELECTION_SECONDS)
            async with asyncio.timeout(ALONE_SECONDS):
                await self._require_silence(request, tls)
        except TimeoutError as error:
            raise RecoveryFailed(BUSY) from error
        finally:
            await part.stop()

    async def _require_silence(self, request: RecoveryRequest, tls: NodeTls) -> None:
        """Require a lasting silence of all others, unless the store is separated already.

        Silence at one probe proves nothing: after a power failure the others may still be starting.
        """
        clock = asyncio.get_running_loop().time
        silence: Silence | None = None
        while True:
            self._require_running()
            began = clock()
            found = await survey(self.identity, self.layout, tls, public=True)
            if request.begun and is_separated(found):
                return
            if reason := standalone_refusal(found) or self._void():
                # A store that does not name its members may be separated.
                raise (RecoveryFailed if found.listed is None else _NotSeparated)(reason)
            silence = prolonged(silence, began, clock())
            if silence.lasted:
                return
            self.tell(WAITING)
            await self._pause(POLL_PAUSE_SECONDS)

    def _require_running(self) -> None:
        """Require that the node is not to stop: whoever stops it may have changed their mind."""
        if self.stop.is_set():
            raise _Unfinished(STOPPED)

    async def _pause(self, seconds: float) -> None:
        """Wait, at most until the node is to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stop.wait()

    def _void(self) -> str | None:
        """Return why the pending request is void; None if it is valid."""
        newest = load_request(self.layout)
        return WITHDRAWN if newest is None else expiry(newest, self.now(), self.boot())

    async def _settled(self, tls: NodeTls, seconds: float) -> None:
        """Wait until the node's own member finds a quorum, for a limited time: it may be broken."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (
                    self.stop.is_set() or await is_healthy(client_url(self.identity), tls())
                ):
                    await self._pause(POLL_SECONDS)

    def _require_store(self) -> None:
        if reason := missing_store(self.layout):
            raise RecoveryFailed(reason)

    def _restore(self) -> None:
        remove_tree(self.layout.incomplete_base_backup)
        restore_old_data(self.layout)
        if reason := missing_data(self.identity, self.layout):
            raise RecoveryFailed(reason)

    async def _stand_alone(self) -> None:
        self._require_store()
        part = self.etcd_with(FORCE_FLAG)
        part.begin()
        last: StoreUnavailable | None = None
        try:
            async with asyncio.timeout(FORCE_SECONDS):
                while True:
                    try:
                        await self._rewritten()
                        break
                    except StoreUnavailable as error:
                        last = error
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            why = f" ({last})" if last else ""
            raise RecoveryFailed(
                f"the store did not respond as a single member within {FORCE_SECONDS:g} s{why};"
                " see logs/etcd.jsonl"
            ) from error
        finally:
            await part.stop()
        # Otherwise the node would keep asking members that it has left.
        alone = {self.identity.member: peer_url(self.identity)}
        identity = msgspec.structs.replace(self.identity, etcd_initial_cluster=alone, data_nodes={})
        save_identity(self.layout.root, identity)
        forget_others(self.layout, identity)

    async def _rewritten(self) -> None:
        tls, own = NodeTls(self.layout), client_url(self.identity)
        while not await is_healthy(own, tls()):  # noqa: ASYNC110 - it is another program's state
            await asyncio.sleep(POLL_SECONDS)
        etcd = Etcd([own], tls, account=NodeAccount(self.layout.root))
        async with sealed_store(self.layout, etcd) as store:
            members = await store.members()
            if [member.name for member in members] != [self.identity.member]:
                raise _NotSeparated(f"the store still has {len(members)} members")
            if await store.members_without_space():
                await store.reclaim_space(own)
            await self.rewrite(store, self.identity)
        forget_kept(self.layout)


async def outcome_of(
    layout: Layout, request: RecoveryRequest, seconds: float
) -> RecoveryOutcome | None:
    """Wait for the outcome of a request; None after the time limit."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                found = load_outcome(layout)
                if found is not None and found.id == request.id:
                    return found
                await asyncio.sleep(POLL_SECONDS)
    return None


prepare(__name__)

"""Recovery requests to a node without quorum, and how its supervisor runs them.

A request is a file: a command writes it, and the supervisor acts on it before the node's parts
start, and deletes it only when everything is done. So it runs again after a crash at any point.
"""

import asyncio
import contextlib
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.etcd.account import NodeAccount
from openvcha.node.etcd.member import client_url, is_healthy, peer_url
from openvcha.node.etcd.sealed_store import sealed_store
from openvcha.node.identity import Identity, save_identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import forget_others
from openvcha.node.local_records.sealed_records import forget_kept
from openvcha.node.local_records.task_votes import forget_required_votes
from openvcha.node.postgres.cloning.clone import remove_tree
from openvcha.node.postgres.cloning.data_backup import restore_backup
from openvcha.node.process.managed_process import Part
from openvcha.node.recovery.own_data import WITNESS, missing_data, missing_store
from openvcha.node.recovery.standalone_rules import is_separated, standalone_refusal
from openvcha.node.recovery.survey import survey
from openvcha.node.security.tls import NodeTls
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import StoreWithAccounts
from openvcha.system.durable import sync_directory, write_durably, write_private
from openvcha.system.new_files import until_exists

FORCE_SECONDS = 60.0
ELECTION_SECONDS = 4.0
"""The node's own member needs 1 to 2 s to find a quorum, rarely a second round."""
POLL_SECONDS = 0.1
FORCE_FLAG = "--force-new-cluster"

Rewrite = Callable[[StoreWithAccounts, Identity], Awaitable[None]]
"""Makes the cluster stand-alone in a store of one member; idempotent."""


class RequestKind(enum.StrEnum):
    """The kind of a request."""

    STANDALONE = "STANDALONE"  # a store of one member and a cluster of one node
    RESTORE = "RESTORE"  # the data from the backup


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request; ``id`` distinguishes its outcome from earlier ones.

    ``begun``: the store was, or may have been, separated from the other members. Only once it is
    separated is there no way back; until then the others are asked again: they may have returned.
    """

    wish: RequestKind
    id: str
    begun: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a request; ``error`` is None on success."""

    id: str
    error: str | None = None


class RecoveryFailed(Exception):  # noqa: N818 - the outcome of a request, not a defect
    """A request failed; nothing that is in use was changed."""


def request_path(layout: Layout) -> Path:
    """Return the path of the request."""
    return layout.root / "recovery.json"


def outcome_path(layout: Layout) -> Path:
    """Return the path of the last request's outcome."""
    return layout.run / "recovery.json"


def write_request(layout: Layout, request: Request) -> None:
    """Write a request for the node's supervisor, now or at its next start. Raises OSError."""
    write_durably(request_path(layout), msgspec.json.encode(request))


def load_request(layout: Layout) -> Request | None:
    """Return the pending request, if any. Raises OSError, msgspec.DecodeError."""
    try:
        return msgspec.json.decode(request_path(layout).read_bytes(), type=Request)
    except FileNotFoundError:
        return None


def load_outcome(layout: Layout) -> Outcome | None:
    """Return the last request's outcome; None if it is missing or unreadable."""
    try:
        return msgspec.json.decode(outcome_path(layout).read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        return None


def set_unreadable_aside(layout: Layout) -> None:
    """Rename an unreadable request, which would prevent every start of the node."""
    path = request_path(layout)
    path.replace(path.with_suffix(".unreadable"))


async def wait_for_request(layout: Layout) -> None:
    """Wait until there is a request."""
    await until_exists(request_path(layout), POLL_SECONDS)


@dataclass(frozen=True)
class Recovery:
    """The execution of requests on a node with no running parts.

    ``etcd_with`` returns the part that runs etcd, with extra flags.
    """

    identity: Identity
    layout: Layout
    etcd_with: Callable[..., Part]
    rewrite: Rewrite

    async def carry_out(self, request: Request) -> Outcome:
        """Run a request, write its outcome, and delete the request."""
        error = None
        try:
            await self._do(request)
        except (RecoveryFailed, StoreError, OSError, LookupError) as failed:
            error = str(failed)
        outcome = Outcome(id=request.id, error=error)
        write_private(outcome_path(self.layout), msgspec.json.encode(outcome))
        newer = load_request(self.layout)
        if newer is not None and newer.id != request.id:
            # There is a newer request, and its sender waits for its own outcome.
            return await self.carry_out(newer)
        request_path(self.layout).unlink(missing_ok=True)
        sync_directory(self.layout.root)
        return outcome

    async def _do(self, request: Request) -> None:
        if not self.identity.holds_data:
            raise RecoveryFailed(WITNESS)
        if request.wish is RequestKind.STANDALONE:
            await self._require_alone(begun=request.begun)
        await asyncio.to_thread(self._restore)
        if request.wish is RequestKind.STANDALONE:
            # Otherwise VMs that are gone for good would be powered on while the store is down.
            forget_required_votes(self.layout)
            self._mark_begun(request)
            await self._stand_alone()

    def _mark_begun(self, request: Request) -> None:
        # If there is a newer request, it gets the outcome.
        newest = load_request(self.layout) or request
        begun = msgspec.structs.replace(newest, wish=request.wish, begun=True)
        write_request(self.layout, begun)

    async def _require_alone(self, *, begun: bool) -> None:
        """Require that no other node responds: some may have returned since the command asked.

        The node's own etcd runs meanwhile, unchanged: it names the members that it knows, and finds
        a quorum if there is one. Once it is separated it has its own quorum, and stopping here
        would leave a single node with the records of a larger cluster.
        """
        self._require_store()
        part = self.etcd_with()
        part.begin()
        try:
            tls = NodeTls(self.layout)
            await self._settled(tls, FORCE_SECONDS if begun else ELECTION_SECONDS)
            found = await survey(self.identity, self.layout, tls, public=True)
            reason = None if begun and is_separated(found) else standalone_refusal(found)
        finally:
            await part.stop()
        if reason:
            raise RecoveryFailed(reason)

    async def _settled(self, tls: NodeTls, seconds: float) -> None:
        """Wait until the node's own member finds a quorum, for a limited time: it may be broken."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not await is_healthy(client_url(self.identity), tls()):  # noqa: ASYNC110 - it is another program's state
                    await asyncio.sleep(POLL_SECONDS)

    def _require_store(self) -> None:
        if reason := missing_store(self.layout):
            raise RecoveryFailed(reason)

    def _restore(self) -> None:
        remove_tree(self.layout.pgdata_copying)
        restore_backup(self.layout)
        if reason := missing_data(self.identity, self.layout):
            raise RecoveryFailed(reason)

    async def _stand_alone(self) -> None:
        self._require_store()
        part = self.etcd_with(FORCE_FLAG)
        part.begin()
        try:
            async with asyncio.timeout(FORCE_SECONDS):
                await self._rewritten()
        except TimeoutError as error:
            raise RecoveryFailed(
                f"the store did not respond as a single member within {FORCE_SECONDS:g} s;"
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
                raise RecoveryFailed(f"the store still has {len(members)} members")
            if await store.members_without_space():
                await store.reclaim_space(own)
            await self.rewrite(store, self.identity)
        forget_kept(self.layout)


async def outcome_of(layout: Layout, request: Request, seconds: float) -> Outcome | None:
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

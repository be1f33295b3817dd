"""What a person asks of a node that has no quorum, and how its supervisor carries it out.

The request is a file: written by a command, acted on by the supervisor before the node's parts
start, and taken away only when all of it is done. So after a crash anywhere it is done again.
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
from openvcha.node.etcd.member import answers, client_url, peer_url
from openvcha.node.etcd.sealed_store import sealed_store
from openvcha.node.identity import Identity, save_identity
from openvcha.node.layout import Layout
from openvcha.node.local_records.cluster import forget_others
from openvcha.node.local_records.sealed_records import forget_kept
from openvcha.node.local_records.task_votes import forget_relied
from openvcha.node.postgres.cloning.clone import has_data, remove_tree
from openvcha.node.postgres.cloning.data_backup import put_back
from openvcha.node.process.managed_process import Part
from openvcha.node.recovery.alone import is_cut_off, why_not
from openvcha.node.recovery.survey import survey
from openvcha.node.security.tls import NodeTls
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.interface import GuardedStore
from openvcha.system.durable import sync_directory, write_durably, write_private

FORCE_SECONDS = 60.0
ELECTION_SECONDS = 4.0
"""The own member needs 1 to 2 s to find a majority, seldom a second round."""
POLL_SECONDS = 0.1
FORCE_FLAG = "--force-new-cluster"

Rewrite = Callable[[GuardedStore, Identity], Awaitable[None]]
"""Writes into a store of one member that the cluster is this node alone; twice is once."""


class Wish(enum.StrEnum):
    """What is asked for."""

    STANDALONE = "STANDALONE"  # a store of one member, and a cluster of one node
    RESTORE = "RESTORE"  # the data that were set aside, back in their place


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The request; ``id`` tells its outcome from an older one's.

    ``begun``: the store was cut off from the others, or may have been. Only where it was is there
    no way back: else the others are asked again, for they may have come back since.
    """

    wish: Wish
    id: str
    begun: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request; ``error`` is None when it was carried out."""

    id: str
    error: str | None = None


class RecoveryFailed(Exception):  # noqa: N818 - the outcome of a request, not an accident
    """A request could not be carried out; nothing that serves was changed."""


def request_path(layout: Layout) -> Path:
    """Name the file of a request."""
    return layout.root / "recovery.json"


def outcome_path(layout: Layout) -> Path:
    """Name the file that tells what became of the last request."""
    return layout.run / "recovery.json"


def write_request(layout: Layout, request: Request) -> None:
    """Ask the node's supervisor, now or at its next start. Raises OSError."""
    write_durably(request_path(layout), msgspec.json.encode(request))


def load_request(layout: Layout) -> Request | None:
    """Read what is asked for. Raises OSError, msgspec.DecodeError."""
    try:
        return msgspec.json.decode(request_path(layout).read_bytes(), type=Request)
    except FileNotFoundError:
        return None


def load_outcome(layout: Layout) -> Outcome | None:
    """Read what became of the last request; None when there is nothing readable."""
    try:
        return msgspec.json.decode(outcome_path(layout).read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        return None


def set_unreadable_aside(layout: Layout) -> None:
    """Keep a request that nobody can read from stopping the node at each start."""
    path = request_path(layout)
    path.replace(path.with_suffix(".unreadable"))


async def wait_for_request(layout: Layout) -> None:
    """Wait until something is asked for."""
    path = request_path(layout)
    while not path.exists():  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Recovery:
    """Carries requests out on a node of which no part runs.

    ``etcd_with`` makes the part that runs etcd, with more flags.
    """

    identity: Identity
    layout: Layout
    etcd_with: Callable[..., Part]
    rewrite: Rewrite

    async def carry_out(self, request: Request) -> Outcome:
        """Do it, write down what became of it, and take the request away."""
        error = None
        try:
            await self._do(request)
        except (RecoveryFailed, StoreError, OSError, LookupError) as failed:
            error = str(failed)
        outcome = Outcome(id=request.id, error=error)
        write_private(outcome_path(self.layout), msgspec.json.encode(outcome))
        newer = load_request(self.layout)
        if newer is not None and newer.id != request.id:
            # Asked again meanwhile, by somebody who waits for an answer of his own.
            return await self.carry_out(newer)
        request_path(self.layout).unlink(missing_ok=True)
        sync_directory(self.layout.root)
        return outcome

    async def _do(self, request: Request) -> None:
        if not self.identity.holds_data:
            raise RecoveryFailed("it is a witness: it has no data to continue with")
        if request.wish is Wish.STANDALONE:
            await self._require_alone(begun=request.begun)
        await asyncio.to_thread(self._restore)
        if request.wish is Wish.STANDALONE:
            # Else who is gone for good would be powered on while the store is away.
            forget_relied(self.layout)
            self._mark_begun(request)
            await self._stand_alone()

    def _mark_begun(self, request: Request) -> None:
        # Asked again meanwhile: it is the newer request that gets the answer.
        newest = load_request(self.layout) or request
        begun = msgspec.structs.replace(newest, wish=request.wish, begun=True)
        write_request(self.layout, begun)

    async def _require_alone(self, *, begun: bool) -> None:
        """Ask all others once more: since the command asked, some may have come back.

        The node's own etcd runs meanwhile, as it is: it says whom it remembers, and finds the
        majority if there is one. Once it is cut off it has a majority of its own, and stopping
        would leave a node that is alone with the records of a cluster of several.
        """
        self._require_store()
        part = self.etcd_with()
        part.begin()
        try:
            tls = NodeTls(self.layout)
            await self._settled(tls, FORCE_SECONDS if begun else ELECTION_SECONDS)
            found = await survey(self.identity, self.layout, tls, public=True)
            reason = None if begun and is_cut_off(found) else why_not(found)
        finally:
            await part.stop()
        if reason:
            raise RecoveryFailed(reason)

    async def _settled(self, tls: NodeTls, seconds: float) -> None:
        """Wait for the own member's election; a broken one never has a majority."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not await answers(client_url(self.identity), tls()):  # noqa: ASYNC110 - it is another program's state
                    await asyncio.sleep(POLL_SECONDS)

    def _require_store(self) -> None:
        if not (self.layout.etcd_data / "member").is_dir():
            raise RecoveryFailed(f"there is no store in {self.layout.etcd_data}")

    def _restore(self) -> None:
        remove_tree(self.layout.pgdata_copying)
        put_back(self.layout)
        if not has_data(self.layout):
            raise RecoveryFailed(f"{self.layout.pgdata} has no data, and no data are set aside")

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
        # Else the node would go on asking members that it has left.
        alone = {self.identity.member: peer_url(self.identity)}
        identity = msgspec.structs.replace(self.identity, etcd_initial_cluster=alone, data_nodes={})
        save_identity(self.layout.root, identity)
        forget_others(self.layout, identity)

    async def _rewritten(self) -> None:
        tls, own = NodeTls(self.layout), client_url(self.identity)
        while not await answers(own, tls()):  # noqa: ASYNC110 - it is another program's state
            await asyncio.sleep(POLL_SECONDS)
        etcd = Etcd([own], tls, account=NodeAccount(self.layout.root))
        async with sealed_store(self.layout, etcd) as store:
            members = await store.members()
            if [member.name for member in members] != [self.identity.member]:
                raise RecoveryFailed(f"the store still has {len(members)} members")
            if await store.full_members():
                await store.make_room(own)
            await self.rewrite(store, self.identity)
        forget_kept(self.layout)


async def outcome_of(layout: Layout, request: Request, seconds: float) -> Outcome | None:
    """Wait for what becomes of a request; None when nothing does in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                found = load_outcome(layout)
                if found is not None and found.id == request.id:
                    return found
                await asyncio.sleep(POLL_SECONDS)
    return None


prepare(__name__)

"""The cluster's store as a data node sees it: etcd with sealed records."""

from collections.abc import Callable, Collection, Sequence
from typing import Self

from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.etcd.client import Etcd
from openvcha.store.etcd.users_and_roles import EtcdAccounts
from openvcha.store.interface import EndpointStatus, KeyValue, Member
from openvcha.store.mirror import Mirror
from openvcha.store.sealing.kept import LastGood
from openvcha.store.sealing.rolled_store import RolledStore
from openvcha.store.sealing.seal import Seals

Trusted = Callable[[bytes | None, Collection[str] | None], Sequence[str]]
"""Returns the endpoints that may receive the account.

Its arguments are the cluster's configuration and the names of the voters; None: as last kept.
"""


class SealedEtcd(RolledStore):
    """Store and Membership over an etcd client. Use it as an async context manager.

    Without ``trusted`` the endpoints stay those of the client. ``mirror`` is a store over the
    client that serves some reads from memory; these are verified like the client's.
    """

    def __init__(
        self,
        etcd: Etcd,
        seals: Seals,
        kept: LastGood | None = None,
        trusted: Trusted | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        super().__init__(mirror or etcd, seals, kept)
        self._etcd = etcd
        self._trusted = trusted

    async def __aenter__(self) -> Self:
        """Use the client."""
        await self._etcd.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._etcd.close()

    @property
    def accounts(self) -> EtcdAccounts:
        """Return etcd's users and roles."""
        return self._etcd.accounts

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Return the endpoints, the one in use first."""
        return self._etcd.endpoints

    def prefer(self, endpoint: str) -> None:
        """Use this endpoint first from now on, if it is one of them."""
        self._etcd.prefer(endpoint)

    async def refresh_endpoints(self) -> tuple[str, ...]:
        """Use the configured voters that hold data, and return the endpoints.

        The URLs that members announce are ignored: a member may announce anything. If no endpoint
        responds, use those that other programs of the node have kept meanwhile.
        """
        if self._trusted is None:
            return self.endpoints
        try:
            (record,), members = await self.get_many_and_members([keys.CLUSTER])
        except StoreError:
            self._etcd.use(self._trusted(None, None))
            raise
        voters = {member.name for member in members if not member.learner}
        self._etcd.use(self._trusted(record.value if record else None, voters))
        return self.endpoints

    async def members(self, *, local: bool = False) -> list[Member]:
        """Return the members; with ``local`` as one endpoint remembers them, without a quorum."""
        return await self._etcd.members(local=local)

    async def get_many_and_members(
        self, names: Sequence[str]
    ) -> tuple[list[KeyValue | None], list[Member]]:
        """Read like ``get_many``, then list the members, with one quorum read."""
        found, members = await self._etcd.get_many_and_members(names)
        return self._sound_ones(names, found), members

    async def member_add(self, peer_urls: Sequence[str], *, learner: bool = True) -> Member:
        """Add a member. Raises PeerExists, and ClusterUnhealthy, which may pass by itself."""
        return await self._etcd.member_add(peer_urls, learner=learner)

    async def member_remove(self, member_id: int) -> None:
        """Remove a member. Raises MemberNotFound."""
        await self._etcd.member_remove(member_id)

    async def member_promote(self, member_id: int) -> None:
        """Make a learner a voter. Raises LearnerNotReady (retry), NotLearner, MemberNotFound."""
        await self._etcd.member_promote(member_id)

    async def move_leader(self, endpoint: str, member_id: int) -> None:
        """Make the leader, which listens at ``endpoint``, transfer its leadership."""
        await self._etcd.move_leader(endpoint, member_id)

    async def members_without_space(self) -> frozenset[int]:
        """Return the ids of the members with a NOSPACE alarm."""
        return await self._etcd.members_without_space()

    async def reclaim_space(self, endpoint: str) -> None:
        """Make a store of one member, at ``endpoint``, writable again; see ``Etcd``."""
        await self._etcd.reclaim_space(endpoint)

    async def compact(self, revision: int) -> None:
        """Compact the history before ``revision``."""
        await self._etcd.compact(revision)

    async def defragment(self, endpoint: str) -> None:
        """Defragment the database of the member at ``endpoint``."""
        await self._etcd.defragment(endpoint)

    async def disarm_alarm(self, members: frozenset[int]) -> None:
        """Clear the NOSPACE alarm of these members."""
        await self._etcd.disarm_alarm(members)

    async def status(self, endpoint: str) -> EndpointStatus:
        """Return the view of one endpoint (URL)."""
        return await self._etcd.status(endpoint)

    async def healthy(
        self,
        endpoint: str,
        timeout: float,  # noqa: ASYNC109 - a probe
        *,
        since: float | None = None,
    ) -> bool:
        """Return whether an endpoint reports a quorum within ``timeout`` seconds."""
        return await self._etcd.healthy(endpoint, timeout, since=since)

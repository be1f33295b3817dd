"""The store client: etcd v3 over its JSON gateway (``/v3/``) of etcd 3.4 and later."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Self

from openvcha.store.account import AccountSource
from openvcha.store.errors import LeaseNotFound, StoreError, StoreUnavailable
from openvcha.store.etcd import wire
from openvcha.store.etcd.gateway import Gateway, GatewayRequest
from openvcha.store.etcd.member_pages import HEALTH, MemberHealth, read_health
from openvcha.store.etcd.users_and_roles import EtcdAccounts
from openvcha.store.etcd.watch import Watch
from openvcha.store.http.client import TlsSource
from openvcha.store.interface import (
    Action,
    Compare,
    EndpointStatus,
    Event,
    Get,
    KeyValue,
    Member,
    Snapshot,
    TxnResult,
)

__all__ = ["EndpointStatus", "Etcd", "Member"]

RANGE = "/v3/kv/range"
ALARM = "/v3/maintenance/alarm"
TIMEOUT_SECONDS = 5.0
SILENCE_SECONDS = 2.0
PROBE_SECONDS = 1.0
DEFRAGMENT_SECONDS = 120.0
MEMBERS = GatewayRequest("/v3/cluster/member/list", {}, wire.members)


class Etcd:
    """A client of the whole cluster: Store and Membership. Use it as an async context manager.

    ``endpoints`` are client URLs; each request goes to the one that responded last, and to the
    next when it fails, until ``timeout`` (seconds) has passed. ``tls`` returns the context
    with the client certificate. A watch trusts a quiet endpoint for ``silence`` seconds.
    ``account`` returns the current account, for when the store requires one.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: TlsSource | None,
        timeout: float = TIMEOUT_SECONDS,
        silence: float = SILENCE_SECONDS,
        account: AccountSource = lambda: None,
    ) -> None:
        self._gateway = Gateway(endpoints, tls, timeout, account)
        self._silence = silence
        self._accounts = EtcdAccounts(self._gateway)

    async def __aenter__(self) -> Self:
        """Use the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._gateway.close()

    @property
    def accounts(self) -> EtcdAccounts:
        """Return etcd's users and roles."""
        return self._accounts

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Return the endpoints, the current one first."""
        return self._gateway.endpoints

    def use(self, endpoints: Sequence[str]) -> None:
        """Use these endpoints from now on; only they receive the account."""
        self._gateway.replace(endpoints)

    def prefer(self, endpoint: str) -> None:
        """Use this endpoint first from now on, if it is one of them."""
        self._gateway.prefer(endpoint)

    async def refresh_endpoints(self) -> tuple[str, ...]:
        """Use the client URLs of all started voters, and return the endpoints.

        For a witness only; data nodes do not trust that list: see ``SealedEtcd``.
        """
        voters = [member for member in await self.members() if not member.learner]
        urls = [url for member in voters for url in member.client_urls]
        if urls:
            self.use(urls)
        return self.endpoints

    async def get(self, key: str) -> KeyValue | None:
        """Read a key (linearizable)."""
        body = wire.range_of(key, prefix=False)
        return await self._gateway.read(GatewayRequest(RANGE, body, wire.one_of(key)))

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        """Read several keys, in the given order, at one revision."""
        return await self._gateway.read(_several(names))

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Read all keys that begin with ``prefix``, sorted."""
        body = wire.range_of(prefix, prefix=True) | {"keys_only": keys_only}
        return list(await self._gateway.read(GatewayRequest(RANGE, body, wire.key_values)))

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read like ``prefix``, with the revision from which to watch on."""
        body = wire.range_of(prefix, prefix=True)
        return await self._gateway.read(GatewayRequest(RANGE, body, wire.snapshot))

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a value and return the revision. Raises LeaseNotFound."""
        body = {"key": wire.text(key), "value": wire.binary(value), "lease": lease}
        return await self._gateway.write(GatewayRequest("/v3/kv/put", body, wire.revision))

    async def delete(self, key: str) -> bool:
        """Delete a key, and return whether it existed."""
        return await self._delete(key, prefix=False) > 0

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with ``prefix``, and return how many."""
        return await self._delete(prefix, prefix=True)

    async def _delete(self, key: str, *, prefix: bool) -> int:
        body = wire.range_of(key, prefix=prefix)
        return await self._gateway.write(GatewayRequest("/v3/kv/deleterange", body, wire.deleted))

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        """Run ``success`` if all ``compares`` hold, else ``failure``; all at one revision."""
        body = wire.transaction(compares, success, failure)
        return await self._gateway.write(GatewayRequest("/v3/kv/txn", body, wire.result))

    async def compact(self, revision: int) -> None:
        """Compact the history before ``revision``; the member that responds does so at once."""
        body = {"revision": revision, "physical": True}
        await self._gateway.write(GatewayRequest("/v3/kv/compaction", body, wire.nothing))

    async def lease_grant(self, ttl: int) -> int:
        """Create a lease of ``ttl`` seconds (etcd may extend it), and return its id."""
        # If the request is repeated, the unused lease expires.
        return await self._gateway.read(GatewayRequest("/v3/lease/grant", {"TTL": ttl}, wire.lease))

    async def lease_keep_alive(self, lease: int) -> int:
        """Renew a lease, and return its TTL in seconds. Raises LeaseNotFound."""
        question = GatewayRequest("/v3/lease/keepalive", {"ID": lease}, wire.lease_seconds)
        seconds = await self._gateway.read(question)
        if seconds <= 0:
            raise LeaseNotFound(f"lease {lease:x} has ended", 5)
        return seconds

    async def lease_remaining(self, lease: int) -> int:
        """Return for how many seconds a lease remains, rounded down. Raises LeaseNotFound."""
        question = GatewayRequest("/v3/lease/timetolive", {"ID": lease}, wire.lease_remaining)
        seconds = await self._gateway.read(question)
        if seconds < 0:
            raise LeaseNotFound(f"lease {lease:x} has ended", 5)
        return seconds

    async def lease_revoke(self, lease: int) -> None:
        """End a lease and delete its keys. Raises LeaseNotFound."""
        await self._gateway.write(GatewayRequest("/v3/lease/revoke", {"ID": lease}, wire.nothing))

    def watch(self, target: str, start_revision: int = 0) -> AsyncGenerator[list[Event], None]:
        """Follow a key, or with a trailing ``/`` all keys below it; see ``Store.watch``."""
        return Watch(self._gateway, target, start_revision, self._silence).events()

    async def members(self, *, local: bool = False) -> list[Member]:
        """Return the members; with ``local`` as one endpoint remembers them, without a quorum."""
        # Etcd serves this from memory (3.4 always): hence `fresh`.
        return await self._gateway.read(MEMBERS, fresh=not local)

    async def get_many_and_members(
        self, names: Sequence[str]
    ) -> tuple[list[KeyValue | None], list[Member]]:
        """Read like ``get_many``, then list the members, with one quorum read."""
        return await self._gateway.read_both(_several(names), MEMBERS)

    async def member_add(self, peer_urls: Sequence[str], *, learner: bool = True) -> Member:
        """Add a member. Raises PeerExists, and ClusterUnhealthy, which may pass by itself."""
        body = {"peerURLs": list(peer_urls), "isLearner": learner}
        question = GatewayRequest("/v3/cluster/member/add", body, wire.new_member)
        return await self._gateway.write(question)

    async def member_remove(self, member_id: int) -> None:
        """Remove a member. Raises MemberNotFound."""
        body = {"ID": member_id}
        await self._gateway.write(GatewayRequest("/v3/cluster/member/remove", body, wire.nothing))

    async def member_promote(self, member_id: int) -> None:
        """Make a learner a voter. Raises LearnerNotReady (retry), NotLearner, MemberNotFound.

        Only the leader can do it. A follower forwards the request without the account, and the
        leader refuses that: so the request goes to the leader itself.
        """
        leader = await self._leader_among_endpoints()
        question = GatewayRequest("/v3/cluster/member/promote", {"ID": member_id}, wire.nothing)
        await self._gateway.request_from(leader, question, self._gateway.timeout)

    async def _leader_among_endpoints(self) -> str:
        """Return the leader's endpoint; if no endpoint leads, first move the leadership to one.

        Raises StoreUnavailable.
        """
        found: dict[str, EndpointStatus] = {}
        for endpoint in self.endpoints:
            with contextlib.suppress(StoreUnavailable):
                status = await self._status(endpoint, PROBE_SECONDS)
                if status.leader == status.member_id:
                    return endpoint
                found[endpoint] = status
        members = {member.id: member for member in await self.members()}
        for endpoint, heir in found.items():
            leader = members.get(heir.leader)
            if leader and leader.client_urls and not heir.learner:
                await self.move_leader(leader.client_urls[0], heir.member_id)
                return endpoint
        raise StoreUnavailable("no member that may be asked leads the store")

    async def move_leader(self, endpoint: str, member_id: int) -> None:
        """Make the leader, which listens at ``endpoint``, transfer its leadership.

        A server that is not an endpoint receives no account; etcd requires none for this.
        """
        body = {"targetID": member_id}
        question = GatewayRequest("/v3/maintenance/transfer-leadership", body, wire.nothing)
        await self._gateway.request_from(endpoint, question, self._gateway.timeout)

    async def members_without_space(self) -> frozenset[int]:
        """Return the ids of the members with a NOSPACE alarm: the store refuses writes."""
        body = {"action": "GET", "alarm": wire.NOSPACE}
        return await self._gateway.read(GatewayRequest(ALARM, body, wire.members_without_space))

    async def reclaim_space(self, endpoint: str) -> None:
        """Make the store of one member, at ``endpoint``, writable again by dropping its history.

        Raises StoreError. If the data alone exceeds the quota, the next write fails again.
        """
        full = await self.members_without_space()
        with contextlib.suppress(StoreError):  # no history since the last compaction
            await self.compact((await self.status(endpoint)).revision)
        await self.defragment(endpoint)
        await self.disarm_alarm(full)

    async def defragment(self, endpoint: str) -> None:
        """Defragment the database of the member at ``endpoint``.

        The member does not respond meanwhile.
        """
        question = GatewayRequest("/v3/maintenance/defragment", {}, wire.nothing)
        await self._gateway.request_from(endpoint, question, DEFRAGMENT_SECONDS)

    async def disarm_alarm(self, members: frozenset[int]) -> None:
        """Clear the NOSPACE alarm of these members, so that the store accepts writes."""
        for member in members:
            body = {"action": "DEACTIVATE", "memberID": member, "alarm": wire.NOSPACE}
            await self._gateway.read(GatewayRequest(ALARM, body, wire.nothing))

    async def status(self, endpoint: str) -> EndpointStatus:
        """Return the view of one endpoint (URL); like ``move_leader``, without the account."""
        return await self._status(endpoint, self._gateway.timeout)

    async def _status(self, endpoint: str, seconds: float) -> EndpointStatus:
        question = GatewayRequest("/v3/maintenance/status", {}, wire.endpoint_status)
        return await self._gateway.request_from(endpoint, question, seconds)

    async def healthy(
        self,
        endpoint: str,
        timeout: float,  # noqa: ASYNC109 - a probe
        *,
        since: float | None = None,
    ) -> bool:
        """Return whether a member reports a quorum within ``timeout`` seconds.

        It receives no account: whoever responds there may be an attacker, who can also lie. An
        endpoint that has served a request sent after ``since`` (the loop's time) with a quorum is
        not queried again.
        """
        if since is not None and self._gateway.had_quorum_since(endpoint, since):
            return True
        try:
            said = read_health(await self._gateway.get_page(endpoint, HEALTH, timeout))
        except StoreError:
            return False
        return said is MemberHealth.HEALTHY


def _several(names: Sequence[str]) -> GatewayRequest[list[KeyValue | None]]:
    body = wire.transaction([], [Get(name) for name in names], [])
    return GatewayRequest("/v3/kv/txn", body, wire.each_of(names))

"""The interface of the store: values, conditions, and protocols."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from openvcha.store.account import Account


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value. Revisions count the store's writes; ``lease`` 0 means no lease."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int = 1
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Keys (sorted), all read at one ``revision``; watch from ``revision + 1``."""

    revision: int
    items: tuple[KeyValue, ...]


class CompareTarget(StrEnum):
    """The property of a key that a condition compares."""

    VERSION = "VERSION"
    CREATE = "CREATE"
    MOD = "MOD"
    VALUE = "VALUE"
    LEASE = "LEASE"


class Relation(StrEnum):
    """The required relation of the property to the operand."""

    EQUAL = "EQUAL"
    NOT_EQUAL = "NOT_EQUAL"
    GREATER = "GREATER"
    LESS = "LESS"


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction. A missing key has revisions and version 0."""

    key: str
    target: CompareTarget
    operand: int | bytes
    relation: Relation = Relation.EQUAL


def absent(key: str) -> Compare:
    """Return the condition that the key does not exist."""
    return Compare(key, CompareTarget.CREATE, 0)


def present(key: str) -> Compare:
    """Return the condition that the key exists."""
    return Compare(key, CompareTarget.CREATE, 0, Relation.GREATER)


def unchanged(kv: KeyValue) -> Compare:
    """Return the condition that the key was neither written nor deleted since ``kv`` was read."""
    return Compare(kv.key, CompareTarget.MOD, kv.mod_revision)


def value_is(key: str, value: bytes) -> Compare:
    """Return the condition that the key exists and has exactly this value."""
    return Compare(key, CompareTarget.VALUE, value)


def created_at(key: str, revision: int) -> Compare:
    """Return the condition that the key was created at this revision: a lock's fencing token."""
    return Compare(key, CompareTarget.CREATE, revision)


@dataclass(frozen=True, slots=True)
class Put:
    """A write of a value, which expires with ``lease`` (0: never)."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """A deletion of a key if it exists, or with ``prefix`` of all keys that begin with it."""

    key: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Get:
    """A read of a key, or with ``prefix`` of all keys that begin with it."""

    key: str
    prefix: bool = False


Action = Put | Delete | Get


@dataclass(frozen=True, slots=True)
class TxnResult:
    """``succeeded`` says which branch ran; ``results`` holds the reads of that branch's ``Get``s.

    ``revision`` is the store's revision after the transaction: the ``create_revision`` of each key
    that it created.
    """

    succeeded: bool
    revision: int
    results: tuple[tuple[KeyValue, ...], ...] = ()


class EventType(StrEnum):
    """The kind of a key's change."""

    PUT = "PUT"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one key. After DELETE, only ``kv.key`` and ``kv.mod_revision`` are valid."""

    type: EventType
    kv: KeyValue


@dataclass(frozen=True, slots=True)
class Permission:
    """The access of an account to a key, or with a trailing ``/`` to all keys below it."""

    key: str
    write: bool = False


class Accounts(Protocol):
    """The accounts of the store. Raises as Store does; each method is idempotent."""

    async def enable_auth(self, own: Account) -> None:
        """Require an account of every client from now on; ``own`` gets all permissions.

        Raises AuthenticationFailed if auth is already enabled and this account is unknown.
        """

    async def list_names(self) -> frozenset[str]:
        """Return the names of all accounts; empty while auth is disabled."""

    async def grant(self, account: Account, permissions: Sequence[Permission]) -> None:
        """Create an account with these permissions; set the password of an existing one."""

    async def delete(self, name: str) -> None:
        """Delete an account and its role."""

    async def grant_all(self, account: Account) -> None:
        """Create an account with all permissions; set the password of an existing one."""

    async def revoke_others(
        self, own: Account | None, others: Mapping[str, Sequence[Permission]]
    ) -> None:
        """Revoke everything that ``own`` and ``others`` do not need."""


class Store(Protocol):
    """Keys with transactions, leases and watches.

    Every method may raise StoreUnavailable (no quorum before the deadline) and StoreError (a
    refusal). Methods that write raise OutcomeUnknown, a StoreUnavailable, when the write may or
    may not have been applied.
    """

    async def get(self, key: str) -> KeyValue | None:
        """Read a key (linearizable)."""

    async def get_many(self, names: Sequence[str]) -> list[KeyValue | None]:
        """Read several keys, in the given order, at one revision; see ``get``."""

    async def prefix(self, prefix: str, *, keys_only: bool = False) -> list[KeyValue]:
        """Read all keys that begin with ``prefix``, sorted; with ``keys_only`` values are empty."""

    async def snapshot(self, prefix: str) -> Snapshot:
        """Read like ``prefix``, with the revision; watch from the next one."""

    async def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a value and return the revision. Raises LeaseNotFound."""

    async def delete(self, key: str) -> bool:
        """Delete a key, and return whether it existed."""

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all keys that begin with ``prefix``, and return how many."""

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Action],
        failure: Sequence[Action] = (),
    ) -> TxnResult:
        """Run ``success`` if all ``compares`` hold, else ``failure``; all at one revision.

        A branch may put a key only once, and must not also delete it. Raises LeaseNotFound.
        """

    async def lease_grant(self, ttl: int) -> int:
        """Create a lease of ``ttl`` seconds (the store may extend it), and return its id."""

    async def lease_keep_alive(self, lease: int) -> int:
        """Renew a lease, and return its TTL in seconds. Raises LeaseNotFound."""

    async def lease_remaining(self, lease: int) -> int:
        """Return for how many seconds a lease remains, rounded down. Raises LeaseNotFound."""

    async def lease_revoke(self, lease: int) -> None:
        """End a lease and delete its keys. Raises LeaseNotFound."""

    def watch(self, target: str, start_revision: int = 0) -> AsyncGenerator[list[Event], None]:
        """Follow a key, or with a trailing ``/`` all keys below it, from a revision on.

        ``start_revision`` is the first one wanted (``snapshot(...).revision + 1``); 0 means from
        when the watch is set up, during the first step of the iteration. The watch survives lost
        connections and lost quorums without losing, repeating or reordering an event; it never
        ends by itself. Raises Compacted. Close it with ``contextlib.aclosing``.
        """


class StoreWithAccounts(Store, Protocol):
    """A store that can require accounts."""

    @property
    def accounts(self) -> Accounts:
        """Return the accounts of the store."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the store's cluster. ``name`` is empty until it has started once."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool = False


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """The view of one member.

    ``leader`` 0: it knows no leader. ``db_size`` in bytes; ``db_in_use`` is the size after a
    defragmentation. All members of one cluster have the same ``cluster_id``. ``full``: a member,
    this one or another, has reached its quota.
    """

    member_id: int
    leader: int
    version: str
    db_size: int
    raft_term: int
    raft_index: int
    learner: bool = False
    cluster_id: int = 0
    revision: int = 0
    db_in_use: int = 0
    full: bool = False


class Membership(Protocol):
    """The members of the store's cluster. Raises as Store does."""

    async def members(self, *, local: bool = False) -> list[Member]:
        """Return the members; with ``local`` as one endpoint remembers them, without a quorum."""

    async def member_add(self, peer_urls: Sequence[str], *, learner: bool = True) -> Member:
        """Add a member. Raises PeerExists, and ClusterUnhealthy, which may pass by itself."""

    async def member_remove(self, member_id: int) -> None:
        """Remove a member. Raises MemberNotFound."""

    async def member_promote(self, member_id: int) -> None:
        """Make a learner a voter. Raises LearnerNotReady (retry), NotLearner, MemberNotFound."""

    async def move_leader(self, endpoint: str, member_id: int) -> None:
        """Make the leader, which listens at ``endpoint``, transfer its leadership."""

    async def status(self, endpoint: str) -> EndpointStatus:
        """Return the view of one endpoint (URL)."""

    async def healthy(
        self,
        endpoint: str,
        timeout: float,  # noqa: ASYNC109 - a probe
        *,
        since: float | None = None,
    ) -> bool:
        """Return whether an endpoint reports a quorum within ``timeout`` seconds.

        An endpoint that has served a request sent after ``since`` (the loop's time) with a quorum
        is not queried again.
        """

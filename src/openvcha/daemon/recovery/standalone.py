"""Turning the cluster into a stand-alone node again, in the store."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.structures import TaskStatus
from openvcha.cluster.patroni_client import FAILSAFE, WITH_STANDBY
from openvcha.cluster.store_accounts import remove_unknown_accounts
from openvcha.daemon.public_address.listening import local_root
from openvcha.infrastructure.local.switch_client import SwitchClient
from openvcha.node.identity import Identity
from openvcha.store import keys
from openvcha.store.account import AccountSource
from openvcha.store.errors import RecordForged, RecordInvalid, StoreUnavailable
from openvcha.store.interface import (
    Action,
    Delete,
    KeyValue,
    Put,
    Store,
    StoreWithAccounts,
    unchanged,
)
from openvcha.store.records import decode, encode
from openvcha.system.structlog_light import structlog
from openvcha.tasks.journal import utc_now
from openvcha.tasks.record import TaskRecord, error_record

_log = structlog.get_logger(__name__)

DELETED_KEYS = (
    keys.CLUSTER,  # this node writes a new one when it leads, like a first node
    keys.OPERATION,
    keys.REQUIRED_VOTES,
    keys.RUNNER,
    keys.PATRONI_LEADER,
    keys.PATRONI_SYNC,  # so that this node may lead, whether or not it was in sync
    keys.PATRONI_STATUS,
    keys.PATRONI_FAILOVER,
    keys.PATRONI_FAILSAFE,
)


async def stand_alone(store: StoreWithAccounts, identity: Identity, own: AccountSource) -> None:
    """Delete the records of the other nodes, and end every task; idempotent.

    The store has only this node's member. Only the account ``own`` keeps access. Raises
    StoreUnavailable while another client writes.
    """
    await remove_unknown_accounts(store, own, ())
    unfinished = await _unfinished_tasks(store)
    config = await _unforged(store, keys.PATRONI_CONFIG)
    found = [*unfinished, *([config] if config else [])]
    actions: list[Action] = [Delete(key) for key in DELETED_KEYS]
    actions += [
        Delete(prefix, prefix=True)
        for prefix in (keys.PATRONI_MEMBERS, keys.NODES, keys.REQUIRED_VOTES_CONFIRMED)
    ]
    actions += [_end(kv, record, identity) for kv, record in unfinished.items()]
    actions += _protecting(config) if config else ()
    if not (await store.txn([unchanged(kv) for kv in found], actions)).succeeded:
        raise StoreUnavailable("another client is writing to the store")
    await _forget_terms(identity)


async def _forget_terms(identity: Identity) -> None:
    """Let this node take the public address, whose switch may know a later term of a lost node."""
    root = local_root(identity)
    if root is None:
        return
    try:
        await SwitchClient(root).forget()
    except OSError as error:
        _log.warning("the switch may refuse the public address", reason=str(error))


async def _unfinished_tasks(store: Store) -> dict[KeyValue, TaskRecord]:
    """Return the tasks that have not ended, whether or not they hold the operation."""
    unfinished = {}
    for kv in await store.prefix(keys.TASKS):
        try:
            record = decode(kv, TaskRecord)
        except RecordInvalid as unreadable:
            _log.warning("leaving an unreadable task as it is", reason=str(unreadable))
        else:
            if not record.finished:
                unfinished[kv] = record
    return unfinished


async def _unforged(store: Store, key: str) -> KeyValue | None:
    """Read a key; treat a forged one as absent: it must not block a change that is final."""
    try:
        return await store.get(key)
    except RecordForged:
        _log.warning("leaving a forged record as it is", key=key)
        return None


def _end(kv: KeyValue, record: TaskRecord, identity: Identity) -> Put:
    """Return the write that ends a task, which no node can continue."""
    error = ApiError(ErrorType.ERROR, message("task.standalone", identity.name))
    ended = msgspec.structs.replace(
        record,
        status=TaskStatus.FAILED,
        error=error_record(error),
        start_time=record.start_time or utc_now(),
        end_time=utc_now(),
        cancelable=False,
    )
    return Put(kv.key, encode(ended))


def _protecting(kv: KeyValue) -> Iterator[Action]:
    """Yield the writes that resume Patroni as in the mode ENABLED, whatever is set now."""
    try:
        config = decode(kv, dict[str, Any])
    except RecordInvalid as unreadable:
        _log.warning("cannot read Patroni's configuration", reason=str(unreadable))
        return
    wanted = {**config, **WITH_STANDBY, FAILSAFE: None}
    kept = {name: value for name, value in wanted.items() if value is not None}
    yield Put(kv.key, json.dumps(kept).encode())

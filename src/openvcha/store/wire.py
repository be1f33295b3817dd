"""The JSON of etcd's gRPC gateway: int64 are strings, bytes are base64, zeros are left out."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from openvcha.store import errors
from openvcha.store.protocol import (
    Action,
    Compare,
    Delete,
    EndpointStatus,
    Event,
    EventType,
    Get,
    KeyValue,
    Member,
    Put,
    Target,
    TxnResult,
)

Json = dict[str, Any]
NOSPACE = "NOSPACE"
"""Etcd's alarm: a member's database has reached its quota."""

_OPERANDS = {
    Target.VERSION: "version",
    Target.CREATE: "create_revision",
    Target.MOD: "mod_revision",
    Target.VALUE: "value",
    Target.LEASE: "lease",
}

_ERRORS: tuple[tuple[str, type[errors.StoreError]], ...] = (
    ("database space exceeded", errors.StoreFull),
    ("requested lease not found", errors.LeaseNotFound),
    ("can only promote a learner member which is in sync", errors.LearnerNotReady),
    ("can only promote a learner member", errors.NotLearner),
    ("member not found", errors.MemberNotFound),
    ("peer urls already exists", errors.PeerExists),
    ("unhealthy cluster", errors.ClusterUnhealthy),
    ("invalid auth token", errors.NotLetIn),
    ("user name is empty", errors.NotLetIn),
    ("revision of auth store is old", errors.NotLetIn),
    ("invalid user id or password", errors.NotLetIn),
    ("permission denied", errors.PermissionDenied),
    ("authentication is not enabled", errors.NotProtected),
    ("user name already exists", errors.AccountExists),
    ("role name already exists", errors.AccountExists),
    ("user name not found", errors.AccountMissing),
    ("role name not found", errors.AccountMissing),
)

# Refusals that come before anything is proposed: another endpoint may do better, also for writes.
_NOT_DONE = (
    "rpc not supported for learner",
    "too many requests",
    "no leader",
    "not capable",
    "proposal dropped",
    "error while dialing",
    "invalid auth token",
    "user name is empty",
    "revision of auth store is old",
    "invalid user id or password",
)
# Canceled, unknown, deadline exceeded, internal, unavailable.
_UNAVAILABLE_CODES = frozenset({1, 2, 4, 13, 14})


def text(value: str) -> str:
    """Encode a key; any bytes that a foreign key had are kept."""
    return binary(value.encode(errors="surrogateescape"))


def binary(value: bytes) -> str:
    """Encode a value."""
    return b64encode(value).decode()


def range_of(key: str, *, prefix: bool) -> Json:
    """Name one key, or all that begin with it."""
    if not prefix:
        return {"key": text(key)}
    raw = key.encode(errors="surrogateescape")
    return {"key": binary(raw or b"\0"), "range_end": binary(prefix_end(raw))}


def prefix_end(prefix: bytes) -> bytes:
    """Give the first key after all that begin with ``prefix``; a zero byte is the end of all."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


def compare(condition: Compare) -> Json:
    """Encode a condition."""
    operand = condition.operand
    return {
        "key": text(condition.key),
        "target": condition.target.value,
        "result": condition.relation.value,
        _OPERANDS[condition.target]: binary(operand) if isinstance(operand, bytes) else operand,
    }


def action(wanted: Action) -> Json:
    """Encode one action of a transaction."""
    match wanted:
        case Put(key, value, lease):
            return {"request_put": {"key": text(key), "value": binary(value), "lease": lease}}
        case Delete(key, prefix):
            return {"request_delete_range": range_of(key, prefix=prefix)}
        case Get(key, prefix):
            return {"request_range": range_of(key, prefix=prefix)}


def transaction(
    compares: Sequence[Compare], success: Sequence[Action], failure: Sequence[Action]
) -> Json:
    """Encode a transaction."""
    return {
        "compare": [compare(one) for one in compares],
        "success": [action(one) for one in success],
        "failure": [action(one) for one in failure],
    }


def key_value(fields: Mapping[str, Any]) -> KeyValue:
    """Decode a key with its value."""
    return KeyValue(
        key=b64decode(fields["key"]).decode(errors="surrogateescape"),
        value=b64decode(fields.get("value", "")),
        create_revision=int(fields.get("create_revision", 0)),
        mod_revision=int(fields.get("mod_revision", 0)),
        version=int(fields.get("version", 0)),
        lease=int(fields.get("lease", 0)),
    )


def key_values(answer: Mapping[str, Any]) -> tuple[KeyValue, ...]:
    """Decode the answer of a range."""
    return tuple(key_value(fields) for fields in answer.get("kvs", ()))


def revision(answer: Mapping[str, Any]) -> int:
    """Give the store's revision from an answer's header."""
    return int(answer["header"].get("revision", 0))


def result(answer: Mapping[str, Any]) -> TxnResult:
    """Decode the answer of a transaction."""
    responses = answer.get("responses", ())
    found = (key_values(one.get("response_range") or {}) for one in responses)
    return TxnResult(bool(answer.get("succeeded")), revision(answer), tuple(found))


def event(fields: Mapping[str, Any]) -> Event:
    """Decode an event of a watch."""
    return Event(EventType(fields.get("type", "PUT")), key_value(fields["kv"]))


def member(fields: Mapping[str, Any]) -> Member:
    """Decode a member."""
    return Member(
        id=int(fields["ID"]),
        name=fields.get("name", ""),
        peer_urls=tuple(fields.get("peerURLs", ())),
        client_urls=tuple(fields.get("clientURLs", ())),
        learner=bool(fields.get("isLearner")),
    )


def endpoint_status(fields: Mapping[str, Any]) -> EndpointStatus:
    """Decode one member's own view."""
    return EndpointStatus(
        member_id=int(fields["header"]["member_id"]),
        leader=int(fields.get("leader", 0)),
        version=fields.get("version", ""),
        db_size=int(fields.get("dbSize", 0)),
        raft_term=int(fields.get("raftTerm", 0)),
        raft_index=int(fields.get("raftIndex", 0)),
        learner=bool(fields.get("isLearner")),
        cluster_id=int(fields["header"].get("cluster_id", 0)),
        revision=revision(fields),
        db_in_use=int(fields.get("dbSizeInUse", 0)),
        full=any(NOSPACE in str(each) for each in fields.get("errors", ())),
    )


def error(status: int, fields: Mapping[str, Any]) -> errors.StoreError:
    """Decode a refusal: the error to raise. What is not known for sure is StoreUnavailable."""
    message = str(fields.get("message") or fields.get("error") or f"HTTP status {status}")
    code = int(fields.get("code") or fields.get("grpc_code") or (-1 if status < 500 else 14))
    kind = next((kind for words, kind in _ERRORS if words in message.lower()), None)
    if kind is None:
        kind = errors.StoreUnavailable if code in _UNAVAILABLE_CODES else errors.StoreError
    return kind(message, code)


def not_done(refusal: errors.StoreError) -> bool:
    """Tell whether a refusal is sure to have changed nothing and is this endpoint's own affair."""
    return any(words in str(refusal).lower() for words in _NOT_DONE)

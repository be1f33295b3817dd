"""The JSON of etcd's gRPC gateway: int64 are strings, bytes are base64, zeros are omitted."""

from base64 import b64encode
from collections.abc import Callable, Sequence

from openvcha.store import errors
from openvcha.store.etcd import reply_forms
from openvcha.store.etcd.reply_forms import Json, Malformed
from openvcha.store.interface import (
    Action,
    Compare,
    CompareTarget,
    Delete,
    EndpointStatus,
    Event,
    EventType,
    Get,
    KeyValue,
    Member,
    Put,
    Snapshot,
    TxnResult,
)

NOSPACE = "NOSPACE"
"""Etcd's alarm: a member's database has reached its quota."""

_OPERANDS = {
    CompareTarget.VERSION: "version",
    CompareTarget.CREATE: "create_revision",
    CompareTarget.MOD: "mod_revision",
    CompareTarget.VALUE: "value",
    CompareTarget.LEASE: "lease",
}

_ERRORS: tuple[tuple[str, type[errors.StoreError]], ...] = (
    ("database space exceeded", errors.StoreFull),
    ("requested lease not found", errors.LeaseNotFound),
    ("can only promote a learner member which is in sync", errors.LearnerNotReady),
    ("can only promote a learner member", errors.NotLearner),
    ("member not found", errors.MemberNotFound),
    ("peer urls already exists", errors.PeerExists),
    ("unhealthy cluster", errors.ClusterUnhealthy),
    ("invalid auth token", errors.AuthenticationFailed),
    ("user name is empty", errors.AuthenticationFailed),
    ("revision of auth store is old", errors.AuthenticationFailed),
    ("invalid user id or password", errors.AuthenticationFailed),
    ("permission denied", errors.PermissionDenied),
    ("authentication is not enabled", errors.AuthDisabled),
    ("user name already exists", errors.AccountExists),
    ("role name already exists", errors.AccountExists),
    ("user name not found", errors.AccountMissing),
    ("role name not found", errors.AccountMissing),
)

# Refusals before anything is proposed: another endpoint may succeed, even for a write.
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
    """Encode a key; arbitrary bytes of a foreign key are kept."""
    return binary(value.encode(errors="surrogateescape"))


def binary(value: bytes) -> str:
    """Encode a value."""
    return b64encode(value).decode()


def range_of(key: str, *, prefix: bool) -> Json:
    """Encode the range of one key, or of all keys that begin with it."""
    if not prefix:
        return {"key": text(key)}
    raw = key.encode(errors="surrogateescape")
    return {"key": binary(raw or b"\0"), "range_end": binary(prefix_end(raw))}


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all that begin with ``prefix``; a zero byte means no end."""
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


def nothing(_: Json) -> None:
    """Ignore the content of a response: its arrival is enough."""


def key_value(fields: Json) -> KeyValue:
    """Decode a key with its value."""
    return KeyValue(
        key=reply_forms.raw(fields, "key").decode(errors="surrogateescape"),
        value=reply_forms.raw(fields, "value"),
        create_revision=reply_forms.number(fields, "create_revision"),
        mod_revision=reply_forms.number(fields, "mod_revision"),
        version=reply_forms.number(fields, "version"),
        lease=reply_forms.number(fields, "lease"),
    )


def key_values(answer: Json) -> tuple[KeyValue, ...]:
    """Decode the response to a range."""
    return tuple(key_value(fields) for fields in reply_forms.objects(answer, "kvs"))


def snapshot(answer: Json) -> Snapshot:
    """Decode the response to a range, with the store's revision."""
    return Snapshot(revision(answer), key_values(answer))


def deleted(answer: Json) -> int:
    """Return how many keys were deleted."""
    return reply_forms.number(answer, "deleted")


def revision(answer: Json) -> int:
    """Return the store's revision from a response header."""
    return reply_forms.number(reply_forms.inner(answer, "header"), "revision")


def result(answer: Json) -> TxnResult:
    """Decode the response to a transaction."""
    responses = reply_forms.objects(answer, "responses")
    ranges = (one.get("response_range") or {} for one in responses)
    found = tuple(key_values(reply_forms.read_object(one, "response_range")) for one in ranges)
    return TxnResult(reply_forms.flag(answer, "succeeded"), revision(answer), found)


def one_of(key: str) -> Callable[[Json], KeyValue | None]:
    """Return a decoder for the range of one key: the key, or None."""
    return lambda answer: _only(key, key_values(answer))


def each_of(names: Sequence[str]) -> Callable[[Json], list[KeyValue | None]]:
    """Return a decoder for a transaction that has read these keys."""

    def read(answer: Json) -> list[KeyValue | None]:
        found = result(answer).results
        if len(found) != len(names):
            raise Malformed("responses: expected one response per key")
        return list(map(_only, names, found))

    return read


def _only(key: str, found: Sequence[KeyValue]) -> KeyValue | None:
    """Return the requested key. Raises Malformed for another one, whose own seal may be valid."""
    if any(kv.key != key for kv in found):
        raise Malformed("kvs: expected the requested key")
    return found[0] if found else None


def event(fields: Json) -> Event:
    """Decode an event of a watch."""
    kind = reply_forms.text(fields, "type") or "PUT"
    if kind not in set(EventType):
        raise Malformed("type: expected PUT or DELETE")
    return Event(EventType(kind), key_value(reply_forms.inner(fields, "kv")))


def watched(message: Json) -> Json:
    """Return the result in a message of a stream. Raises the error in the message."""
    if message.get("error") is not None:
        raise error(503, reply_forms.inner(message, "error"))
    return reply_forms.inner(message, "result")


def events(answer: Json) -> list[Event]:
    """Decode the events in a watch response."""
    return [event(fields) for fields in reply_forms.objects(answer, "events")]


def lease(answer: Json) -> int:
    """Return the id of a new lease."""
    return reply_forms.identifier(answer, "ID")


def lease_seconds(message: Json) -> int:
    """Return the seconds left of a lease; 0: it has expired. Raises the error in the message."""
    return reply_forms.number(watched(message), "TTL")


def lease_remaining(answer: Json) -> int:
    """Return the seconds left of a lease, which may be 0; negative: it has expired."""
    return reply_forms.number(answer, "TTL")


def token(answer: Json) -> str:
    """Return the token from the response to an authentication."""
    return reply_forms.token(answer, "token")


def member(fields: Json) -> Member:
    """Decode a member."""
    return Member(
        id=reply_forms.identifier(fields, "ID"),
        name=reply_forms.text(fields, "name"),
        peer_urls=reply_forms.texts(fields, "peerURLs"),
        client_urls=reply_forms.texts(fields, "clientURLs"),
        learner=reply_forms.flag(fields, "isLearner"),
    )


def members(answer: Json) -> list[Member]:
    """Decode the list of members."""
    return [member(fields) for fields in reply_forms.objects(answer, "members")]


def new_member(answer: Json) -> Member:
    """Decode the member that was added."""
    return member(reply_forms.inner(answer, "member"))


def members_without_space(answer: Json) -> frozenset[int]:
    """Return the ids of the members with a NOSPACE alarm."""
    alarms = reply_forms.objects(answer, "alarms")
    return frozenset(
        reply_forms.identifier(one, "memberID") for one in alarms if one.get("alarm") == NOSPACE
    )


def permissions(answer: Json) -> dict[tuple[str, str], str]:
    """Return the permission type of a role by range, both as etcd writes them."""
    return {
        (reply_forms.text(one, "key"), reply_forms.text(one, "range_end")): reply_forms.text(
            one, "permType"
        )
        for one in reply_forms.objects(answer, "perm")
    }


def endpoint_status(fields: Json) -> EndpointStatus:
    """Decode the view of one member."""
    header = reply_forms.inner(fields, "header")
    return EndpointStatus(
        member_id=reply_forms.identifier(header, "member_id"),
        leader=reply_forms.number(fields, "leader"),
        version=reply_forms.text(fields, "version"),
        db_size=reply_forms.number(fields, "dbSize"),
        raft_term=reply_forms.number(fields, "raftTerm"),
        raft_index=reply_forms.number(fields, "raftIndex"),
        learner=reply_forms.flag(fields, "isLearner"),
        cluster_id=reply_forms.number(header, "cluster_id"),
        revision=revision(fields),
        db_in_use=reply_forms.number(fields, "dbSizeInUse"),
        full=any(NOSPACE in each for each in reply_forms.texts(fields, "errors")),
    )


def error(status: int, fields: Json) -> errors.StoreError:
    """Decode a refusal: return the error to raise. An unclear one becomes StoreUnavailable."""
    said = reply_forms.shown(fields.get("message")) or reply_forms.shown(fields.get("error"))
    message = said or f"HTTP status {status}"
    code = _code(fields, -1 if status < 500 else 14)
    kind = next((kind for words, kind in _ERRORS if words in message.lower()), None)
    if kind is None:
        kind = errors.StoreUnavailable if code in _UNAVAILABLE_CODES else errors.StoreError
    return kind(message, code)


def _code(fields: Json, otherwise: int) -> int:
    try:
        said = reply_forms.number(fields, "code") or reply_forms.number(fields, "grpc_code")
    except Malformed:
        return otherwise
    return said or otherwise


def not_done(refusal: errors.StoreError) -> bool:
    """Return whether a refusal certainly changed nothing and concerns only this endpoint."""
    return any(words in str(refusal).lower() for words in _NOT_DONE)

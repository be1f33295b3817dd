"""The roll: a sealed list of the records that grant permissions, at their newest state. Pure.

A seal protects one record under its key. An attacker who resets the whole store to an older state
resets etcd's counters, too, and all seals are valid. So one sealed record, the roll, holds the
digests of all records that grant permissions, and a number that increases with each change. Each
data node keeps the newest roll it has seen, and thus detects an older roll and every outdated
record.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json, keys
from openvcha.store.interface import Action, Delete, KeyValue, Put

ENROLLED: Final = (keys.USERS, keys.JOINS)
"""Records that the roll lists one by one."""
JUDGED: Final = (*ENROLLED, keys.SESSIONS)
"""Records that need the roll to be valid; for sessions it holds only a minimum revision."""
DIGITS: Final = 32


class Roll(msgspec.Struct, frozen=True, kw_only=True):
    """``records`` are digests by key.

    ``sessions_since`` is a revision of the store: sessions created before it are invalid.
    """

    number: int
    sessions_since: int = 0
    records: dict[str, str] = {}

    def has(self, kv: KeyValue) -> bool:
        """Return whether an unsealed record matches the roll."""
        if kv.key.startswith(keys.SESSIONS):
            return kv.create_revision >= self.sessions_since
        return self.records.get(kv.key) == digest(kv.value)

    def after(self, actions: Iterable[Action]) -> "Roll":
        """Return the roll after these actions; the same object when they change nothing."""
        records = dict(self.records)
        for action in actions:
            if isinstance(action, Put) and enrolled(action.key):
                records[action.key] = digest(action.value)
            elif isinstance(action, Delete):
                for key in _deleted(action, records):
                    del records[key]
        return self if records == self.records else self.next(records)

    def next(self, records: dict[str, str], sessions_since: int | None = None) -> "Roll":
        """Return the next roll, with these records."""
        since = self.sessions_since if sessions_since is None else sessions_since
        return Roll(number=self.number + 1, sessions_since=since, records=records)


EMPTY: Final = Roll(number=0)
"""The roll of a store that never had one: no record is valid."""

_encoder: Final = msgspec.json.Encoder(order="sorted")


def digest(value: bytes) -> str:
    """Return the digest of a value as the roll holds it."""
    return hashlib.sha256(value).hexdigest()[:DIGITS]


def write(roll: Roll) -> bytes:
    """Encode a roll."""
    return _encoder.encode(roll)


def read(value: bytes) -> Roll | None:
    """Decode a roll; None when it is invalid."""
    try:
        return bounded_json.decode(value, Roll)
    except msgspec.MsgspecError:
        return None


def enrolled(key: str) -> bool:
    """Return whether the roll lists the record under a key."""
    return key.startswith(ENROLLED)


def judged(key: str) -> bool:
    """Return whether the record under a key needs the roll to be valid."""
    return key.startswith(JUDGED)


def judges_below(prefix: str) -> bool:
    """Return whether any record below a prefix needs the roll to be valid."""
    return any(one.startswith(prefix) or prefix.startswith(one) for one in JUDGED)


def changes(action: Action) -> bool:
    """Return whether an action may change the roll."""
    if isinstance(action, Delete) and action.prefix:
        return any(one.startswith(action.key) or action.key.startswith(one) for one in ENROLLED)
    return isinstance(action, Put | Delete) and enrolled(action.key)


def _deleted(action: Delete, records: Iterable[str]) -> list[str]:
    if action.prefix:
        return [key for key in records if key.startswith(action.key)]
    return [key for key in records if key == action.key]


prepare(__name__)

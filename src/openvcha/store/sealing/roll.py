"""The roll: which records say who may do what, as data nodes have written them last. Pure.

A seal speaks for one record in its place. Who puts the whole store back to an older state puts the
places back too, and every seal in it fits. So one sealed record, the roll, has the digest of each
record that decides who may do what, and a number that rises with each change. Each data node
keeps the newest one that it has seen: by that an older one is known, and so is each record in it.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store import bounded_json, keys
from openvcha.store.interface import Action, Delete, KeyValue, Put

ENROLLED: Final = (keys.USERS, keys.JOINS)
"""What is on the roll, record by record."""
JUDGED: Final = (*ENROLLED, keys.SESSIONS)
"""What counts only as the roll has it; of sessions it has no more than since when they count."""
DIGITS: Final = 32


class Roll(msgspec.Struct, frozen=True, kw_only=True):
    """``records`` are digests by key.

    ``sessions_since`` is the store's revision before which no session that counts was begun.
    """

    number: int
    sessions_since: int = 0
    records: dict[str, str] = {}

    def has(self, kv: KeyValue) -> bool:
        """Return whether a record, its seal taken off, is what the roll says of its key."""
        if kv.key.startswith(keys.SESSIONS):
            return kv.create_revision >= self.sessions_since
        return self.records.get(kv.key) == digest(kv.value)

    def after(self, actions: Iterable[Action]) -> "Roll":
        """Return what it is once these have been carried out: itself where they change nothing."""
        records = dict(self.records)
        for action in actions:
            if isinstance(action, Put) and enrolled(action.key):
                records[action.key] = digest(action.value)
            elif isinstance(action, Delete):
                for key in _deleted(action, records):
                    del records[key]
        return self if records == self.records else self.next(records)

    def next(self, records: dict[str, str], sessions_since: int | None = None) -> "Roll":
        """Return the roll that comes after this one."""
        since = self.sessions_since if sessions_since is None else sessions_since
        return Roll(number=self.number + 1, sessions_since=since, records=records)


EMPTY: Final = Roll(number=0)
"""Where nobody has ever written one: nothing counts."""

_encoder: Final = msgspec.json.Encoder(order="sorted")


def digest(value: bytes) -> str:
    """Return what the roll has of a value."""
    return hashlib.sha256(value).hexdigest()[:DIGITS]


def write(roll: Roll) -> bytes:
    """Write a roll as it is stored."""
    return _encoder.encode(roll)


def read(value: bytes) -> Roll | None:
    """Read a roll; None for what is none."""
    try:
        return bounded_json.decode(value, Roll)
    except msgspec.MsgspecError:
        return None


def enrolled(key: str) -> bool:
    """Return whether the record under a key is on the roll."""
    return key.startswith(ENROLLED)


def judged(key: str) -> bool:
    """Return whether the record under a key counts only as the roll has it."""
    return key.startswith(JUDGED)


def judges_below(prefix: str) -> bool:
    """Return whether some of what begins with a prefix counts only as the roll has it."""
    return any(one.startswith(prefix) or prefix.startswith(one) for one in JUDGED)


def changes(action: Action) -> bool:
    """Return whether an action may change what the roll has to say."""
    if isinstance(action, Delete) and action.prefix:
        return any(one.startswith(action.key) or action.key.startswith(one) for one in ENROLLED)
    return isinstance(action, Put | Delete) and enrolled(action.key)


def _deleted(action: Delete, records: Iterable[str]) -> list[str]:
    if action.prefix:
        return [key for key in records if key.startswith(action.key)]
    return [key for key in records if key == action.key]


prepare(__name__)

"""Seals: who has no key of the data nodes can neither make a record nor put an old one back. Pure.

A seal is an HMAC-SHA256 over the record's key, the revision at which the key was created, how often
it was written since, whether it has a lease, and the value. etcd counts both by itself, also for
who writes past its API: so an older value in the same place does not fit any more, and neither does
one that was deleted and put back.

Most records are sealed in an envelope: a line with the seal, then the value. What Patroni reads is
JSON, and has the seal as one field. Patroni writes what it tells of itself each second, so that
is bound to its key only: it may be put back, but not made up, nor moved to another member.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from openvcha.api.secret import Secret
from openvcha.store import keys
from openvcha.store.bounded_json import json_object
from openvcha.store.errors import RecordForged
from openvcha.store.interface import KeyValue

FIELD: Final = "openvcha_seal"
"""The field with the seal, of what is JSON."""
RESERVED: Final = b"openvcha-seal reserved"
"""Stands under a key between its creation and the first value: until then, nothing is there."""

_PREFIX: Final = b"openvcha-seal "
_DOMAIN: Final = b"openvcha record 1"
_ID_DIGITS: Final = 16
_SEALED_PREFIXES: Final = tuple(one for one in keys.SEALED if one.endswith("/"))
_SEALED_KEYS: Final = frozenset(keys.SEALED).difference(_SEALED_PREFIXES)

Keys = Callable[[], Sequence[Secret]]
"""The keys that count now: the one to seal with first, then those that are still accepted.

The same object means the same keys, so it is never changed.
"""


class Kind(Enum):
    """How a record is sealed."""

    ENVELOPE = "envelope"
    JSON = "json"
    UNBOUND = "unbound"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: what etcd itself counts. ``lease``: whether the key has one."""

    key: str
    created: int
    version: int
    lease: bool


def kind_of(key: str) -> Kind | None:
    """Return how the record under a key is sealed; None: it is not."""
    if key == keys.PATRONI_CONFIG:
        return Kind.JSON
    if key.startswith(keys.PATRONI_MEMBERS):
        return Kind.UNBOUND
    if key in _SEALED_KEYS or key.startswith(_SEALED_PREFIXES):
        return Kind.ENVELOPE
    return None


def is_reserved(kv: KeyValue) -> bool:
    """Return whether a key was only reserved yet: it was created so, and never written since.

    Who writes that over what was there takes it away from nobody: it is forged.
    """
    return kv.value == RESERVED and kv.version == 1


def place_of(kv: KeyValue) -> Place:
    """Return the place of what was read."""
    return Place(kv.key, kv.create_revision, kv.version, bool(kv.lease))


class Seals:
    """Makes seals and checks them."""

    def __init__(self, known: Keys) -> None:
        self._known = known

    @property
    def known(self) -> Sequence[Secret]:
        """Return the keys that count now: as one object, as long as they are the same."""
        return self._known()

    def close(self, place: Place, value: bytes) -> bytes:
        """Seal a value for the place where it will stand. Raises ValueError: it is no JSON."""
        key, kind = self._known()[0], kind_of(place.key)
        if kind is Kind.ENVELOPE:
            seal = _seal(key, place, value)
            return _PREFIX + seal.encode() + b"\n" + value
        fields = json_object(value)
        if fields is None:
            raise ValueError(f"{place.key}: no JSON object")
        return canonical({**fields, FIELD: self._of_fields(key, place, fields)})

    def open(self, kv: KeyValue) -> bytes:
        """Return the value without its seal. Raises RecordForged."""
        if kind_of(kv.key) is Kind.ENVELOPE:
            return self._open_envelope(kv)
        fields = self.open_fields(place_of(kv), json_object(kv.value))
        return canonical(fields)

    def open_fields(self, place: Place, fields: dict[str, Any] | None) -> dict[str, Any]:
        """Return the fields of an object without its seal. Raises RecordForged."""
        rest = {name: value for name, value in (fields or {}).items() if name != FIELD}
        found = (fields or {}).get(FIELD)
        if not isinstance(found, str) or not self._fits(
            found, lambda key: self._of_fields(key, place, rest)
        ):
            raise RecordForged(place.key)
        return rest

    def seal_fields(self, place: Place, fields: dict[str, Any]) -> dict[str, Any]:
        """Return an object with its seal."""
        return {**fields, FIELD: self._of_fields(self._known()[0], place, fields)}

    def stale(self, kv: KeyValue) -> bool:
        """Return whether a record that fits was sealed with a key that seals nothing any more."""
        current = key_id(self._known()[0])
        if kind_of(kv.key) is Kind.ENVELOPE:
            return not kv.value.startswith(_PREFIX + current.encode())
        return not str((json_object(kv.value) or {}).get(FIELD)).startswith(current)

    def _open_envelope(self, kv: KeyValue) -> bytes:
        line, newline, value = kv.value.partition(b"\n")
        seal = line.removeprefix(_PREFIX).decode(errors="replace")
        place = place_of(kv)
        sealed = newline and line.startswith(_PREFIX)
        if not sealed or not self._fits(seal, lambda key: _seal(key, place, value)):
            raise RecordForged(kv.key)
        return value

    def _of_fields(self, key: Secret, place: Place, fields: dict[str, Any]) -> str:
        if kind_of(place.key) is Kind.UNBOUND:
            place = Place(place.key, 0, 0, lease=False)
        return _seal(key, place, canonical(fields))

    def _fits(self, seal: str, make: Callable[[Secret], str]) -> bool:
        name = seal.partition(":")[0]
        return any(
            hmac.compare_digest(make(key).encode(), seal.encode(errors="replace"))
            for key in self._known()
            if key_id(key) == name
        )


def unverified(value: bytes) -> bytes:
    """Return what a record claims, for a witness, which has no key: to be shown, not acted on."""
    line, newline, rest = value.partition(b"\n")
    return rest if newline and line.startswith(_PREFIX) else value


def canonical(fields: dict[str, Any]) -> bytes:
    """Write an object in the one way in which it is sealed."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def key_id(key: Secret) -> str:
    """Name a key without telling anything of it."""
    return hmac.digest(key.reveal().encode(), b"openvcha key id", "sha256").hex()[:_ID_DIGITS]


def _seal(key: Secret, place: Place, value: bytes) -> str:
    parts = (
        _DOMAIN,
        place.key.encode(errors="surrogateescape"),
        str(place.created).encode(),
        str(place.version).encode(),
        b"lease" if place.lease else b"",
        value,
    )
    made = hmac.new(key.reveal().encode(), digestmod=hashlib.sha256)
    for part in parts:
        made.update(len(part).to_bytes(8, "big") + part)
    return f"{key_id(key)}:{made.hexdigest()}"

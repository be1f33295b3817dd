"""Seals: without a key of the data nodes, records can be neither forged nor replayed. Pure.

A seal is an HMAC-SHA256 over the record's key, the revision at which the key was created, its
version, whether it has a lease, and the value. etcd maintains these counters itself, even for a
client that bypasses our API: so neither an older value of the key nor a deleted and restored one
is valid.

Most records are sealed in an envelope: a line with the seal, then the value. The records that
Patroni reads are JSON, with the seal as a field. Patroni's member keys change every second, so
they are bound to the key only: they can be replayed, but neither forged nor moved to another
member.
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
"""The field of a JSON object that holds the seal."""
RESERVED: Final = b"openvcha-seal reserved"
"""The value of a key between its creation and its first value; readers ignore such a key."""

_PREFIX: Final = b"openvcha-seal "
_DOMAIN: Final = b"openvcha record 1"
_ID_DIGITS: Final = 16
_SEALED_PREFIXES: Final = tuple(one for one in keys.SEALED if one.endswith("/"))
_SEALED_KEYS: Final = frozenset(keys.SEALED).difference(_SEALED_PREFIXES)

KeySource = Callable[[], Sequence[Secret]]
"""Returns the current keys: first the one to seal with, then those that are still accepted.

The same object means the same keys: it is immutable.
"""


class SealKind(Enum):
    """The form of a record's seal."""

    ENVELOPE = "envelope"
    JSON = "json"
    UNBOUND = "unbound"


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """A key with the counters of etcd. ``lease``: whether the key has one."""

    key: str
    created: int
    version: int
    lease: bool


def seal_kind(key: str) -> SealKind | None:
    """Return how the record under a key is sealed; None if it is not."""
    if key == keys.PATRONI_CONFIG:
        return SealKind.JSON
    if key.startswith(keys.PATRONI_MEMBERS):
        return SealKind.UNBOUND
    if key in _SEALED_KEYS or key.startswith(_SEALED_PREFIXES):
        return SealKind.ENVELOPE
    return None


def is_reserved(kv: KeyValue) -> bool:
    """Return whether a key is only reserved: created with that value, and never written since.

    A reservation that overwrites a value is forged, and hides nothing.
    """
    return kv.value == RESERVED and kv.version == 1


def key_version(kv: KeyValue) -> KeyVersion:
    """Return the version of a key that a seal covers."""
    return KeyVersion(kv.key, kv.create_revision, kv.version, bool(kv.lease))


class Seals:
    """A creator and verifier of seals."""

    def __init__(self, known: KeySource) -> None:
        self._known = known

    @property
    def known(self) -> Sequence[Secret]:
        """Return the current keys; the same object as long as they are the same."""
        return self._known()

    def seal(self, place: KeyVersion, value: bytes) -> bytes:
        """Seal a value for its key version. Raises ValueError if it should be JSON but is not."""
        key, kind = self._known()[0], seal_kind(place.key)
        if kind is SealKind.ENVELOPE:
            seal = _seal(key, place, value)
            return _PREFIX + seal.encode() + b"\n" + value
        fields = json_object(value)
        if fields is None:
            raise ValueError(f"{place.key}: no JSON object")
        return canonical({**fields, FIELD: self._of_fields(key, place, fields)})

    def unseal(self, kv: KeyValue) -> bytes:
        """Return the value without its seal. Raises RecordForged."""
        if seal_kind(kv.key) is SealKind.ENVELOPE:
            return self._unseal_envelope(kv)
        fields = self.unseal_fields(key_version(kv), json_object(kv.value))
        return canonical(fields)

    def unseal_fields(self, place: KeyVersion, fields: dict[str, Any] | None) -> dict[str, Any]:
        """Return the fields of an object without its seal. Raises RecordForged."""
        rest = {name: value for name, value in (fields or {}).items() if name != FIELD}
        found = (fields or {}).get(FIELD)
        if not isinstance(found, str) or not self._verify(
            found, lambda key: self._of_fields(key, place, rest)
        ):
            raise RecordForged(place.key)
        return rest

    def seal_fields(self, place: KeyVersion, fields: dict[str, Any]) -> dict[str, Any]:
        """Return an object with its seal."""
        return {**fields, FIELD: self._of_fields(self._known()[0], place, fields)}

    def is_stale(self, kv: KeyValue) -> bool:
        """Return whether a valid record was sealed with an old key."""
        current = key_id(self._known()[0])
        if seal_kind(kv.key) is SealKind.ENVELOPE:
            return not kv.value.startswith(_PREFIX + current.encode())
        return not str((json_object(kv.value) or {}).get(FIELD)).startswith(current)

    def _unseal_envelope(self, kv: KeyValue) -> bytes:
        line, newline, value = kv.value.partition(b"\n")
        seal = line.removeprefix(_PREFIX).decode(errors="replace")
        place = key_version(kv)
        sealed = newline and line.startswith(_PREFIX)
        if not sealed or not self._verify(seal, lambda key: _seal(key, place, value)):
            raise RecordForged(kv.key)
        return value

    def _of_fields(self, key: Secret, place: KeyVersion, fields: dict[str, Any]) -> str:
        if seal_kind(place.key) is SealKind.UNBOUND:
            place = KeyVersion(place.key, 0, 0, lease=False)
        return _seal(key, place, canonical(fields))

    def _verify(self, seal: str, make: Callable[[Secret], str]) -> bool:
        name = seal.partition(":")[0]
        return any(
            hmac.compare_digest(make(key).encode(), seal.encode(errors="replace"))
            for key in self._known()
            if key_id(key) == name
        )


def unverified(value: bytes) -> bytes:
    """Return the content of a record without verification, for display by a witness only."""
    line, newline, rest = value.partition(b"\n")
    return rest if newline and line.startswith(_PREFIX) else value


def canonical(fields: dict[str, Any]) -> bytes:
    """Encode an object in the canonical form that is sealed."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def key_id(key: Secret) -> str:
    """Return an id of a key that does not reveal it."""
    return hmac.digest(key.reveal().encode(), b"openvcha key id", "sha256").hex()[:_ID_DIGITS]


def _seal(key: Secret, place: KeyVersion, value: bytes) -> str:
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

"""Join tokens: for one role at one address, bound to the first key used.

An Administrator's token is valid for a day, and only while its issuer is an Administrator and has
the same password. A boot token is the one of a task for a node that it creates: it has no issuer,
and is valid only until that node is a member.
"""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.api.structures import JoinRole, JoinSpec
from openvcha.store import keys
from openvcha.store.interface import Store
from openvcha.store.records import Record

LIFE = timedelta(hours=24)
BYTES = 32


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The stored record of a token.

    ``issuer_generation`` is that of the issuer's password; a token without one does not count. A
    boot token has no issuer, but its ``task`` from the start.
    ``spent_by`` is the SHA-256 of the key (DER) that used it, ``task`` the only task that may.
    """

    digest: str
    ha_address: str
    issuer: str
    expires: datetime
    issuer_generation: str = ""
    spent_by: str = ""
    task: str = ""


def token_record(store: Store, role: JoinRole) -> Record[TokenRecord]:
    """Return the record of a role's token."""
    return Record(store, keys.join_token(role.value.lower()), TokenRecord)


def boot_record(store: Store, role: str) -> Record[TokenRecord]:
    """Return the record of the boot token of a role (in lower case)."""
    return Record(store, keys.boot_token(role), TokenRecord)


def new_boot_token(
    ha_address: str,
    task: str,
    now: datetime,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> tuple[Secret, TokenRecord]:
    """Create the token for a node that a task creates; only its hash is stored."""
    token = Secret(random(BYTES))
    record = TokenRecord(
        digest=digest_of(token), ha_address=ha_address, issuer="", expires=now + LIFE, task=task
    )
    return token, record


def new_token(
    ha_address: str,
    issuer: str,
    issuer_generation: str,
    now: datetime,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> tuple[Secret, TokenRecord]:
    """Create a token; only its hash is stored."""
    token = Secret(random(BYTES))
    record = TokenRecord(
        digest=digest_of(token),
        ha_address=ha_address,
        issuer=issuer,
        issuer_generation=issuer_generation,
        expires=now + LIFE,
    )
    return token, record


def digest_of(token: Secret) -> str:
    """Return the hash of a token; the token is too long to be guessed from it."""
    return hashlib.sha256(token.reveal().encode(errors="surrogatepass")).hexdigest()


def is_token_of(record: TokenRecord, token: Secret) -> bool:
    """Return whether a record is that of this token."""
    return hmac.compare_digest(record.digest, digest_of(token))


def require_token(found: TokenRecord | None, spec: JoinSpec, now: datetime) -> TokenRecord:
    """Return the record if the token is valid for this role and address.

    A token whose task began before it expired stays valid for the node that used it.
    Raises ApiError INVALID_ARGUMENT.
    """
    if found is None or not is_token_of(found, spec.token):
        raise _wrong("join.token.invalid", spec.role.value.lower())
    if not found.task and now >= found.expires:
        raise _wrong("join.token.expired")
    if found.ha_address != spec.ha_address:
        raise _wrong("join.token.address", found.ha_address, spec.ha_address)
    return found


def spent(record: TokenRecord, digest: str, public_key: bytes) -> TokenRecord:
    """Return the record of a token that this key has used.

    Raises ApiError INVALID_ARGUMENT when another key has used it, or it was replaced meanwhile.
    """
    user = hashlib.sha256(public_key).hexdigest()
    if record.digest != digest or record.spent_by not in {"", user}:
        raise _wrong("join.token.used")
    return msgspec.structs.replace(record, spent_by=user)


def claimed(record: TokenRecord, digest: str, task: str) -> TokenRecord:
    """Return the record of a token that this task has taken, as the only one.

    Raises ApiError INVALID_ARGUMENT when an earlier task has taken it, or it was replaced.
    """
    if record.digest != digest:
        raise _wrong("join.token.used")
    if record.task not in {"", task}:
        raise _wrong("join.over", record.task)
    return msgspec.structs.replace(record, task=task)


async def require_issuer(
    record: TokenRecord, administrator: Callable[[str], Awaitable[str | None]]
) -> None:
    """Raise ApiError INVALID_ARGUMENT unless the issuer still is what made the token valid.

    ``administrator`` is that of ``Services``.
    """
    if not await issuer_remains(record, administrator):
        raise _wrong("join.token.issuer")


async def issuer_remains(
    record: TokenRecord, administrator: Callable[[str], Awaitable[str | None]]
) -> bool:
    """Return whether the issuer still is an Administrator with the same password."""
    known = record.issuer_generation
    return bool(known) and await administrator(record.issuer) == known


def _wrong(name: str, *arguments: str) -> ApiError:
    return ApiError(ErrorType.INVALID_ARGUMENT, message(name, *arguments))


prepare(__name__)

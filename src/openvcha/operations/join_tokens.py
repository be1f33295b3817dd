"""Join tokens: for one role at one address, valid for a day, bound to the first key used."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
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
    """The stored record of a token. ``spent_by`` is the SHA-256 of the key (DER) that used it."""

    digest: str
    ha_address: str
    issuer: str
    expires: datetime
    spent_by: str = ""
    task: str = ""


def token_record(store: Store, role: JoinRole) -> Record[TokenRecord]:
    """Return the record of a role's token."""
    return Record(store, keys.join_token(role.value.lower()), TokenRecord)


def new_token(
    ha_address: str,
    issuer: str,
    now: datetime,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> tuple[Secret, TokenRecord]:
    """Create a token; only its hash is stored."""
    token = Secret(random(BYTES))
    record = TokenRecord(
        digest=digest_of(token), ha_address=ha_address, issuer=issuer, expires=now + LIFE
    )
    return token, record


def digest_of(token: Secret) -> str:
    """Return the hash of a token; the token is too long to be guessed from it."""
    return hashlib.sha256(token.reveal().encode(errors="surrogatepass")).hexdigest()


def require_token(found: TokenRecord | None, spec: JoinSpec, now: datetime) -> TokenRecord:
    """Return the record if the token is valid for this role and address.

    A token that was used before it expired stays valid for the node that used it.
    Raises ApiError INVALID_ARGUMENT.
    """
    if found is None or not hmac.compare_digest(found.digest, digest_of(spec.token)):
        raise _wrong("join.token.invalid", spec.role.value.lower())
    if not found.spent_by and now >= found.expires:
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


def _wrong(name: str, *arguments: str) -> ApiError:
    return ApiError(ErrorType.INVALID_ARGUMENT, message(name, *arguments))


prepare(__name__)

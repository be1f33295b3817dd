"""Whether a user still is an Administrator, for what outlives the call that authorized it."""

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api_server.auth.names_and_roles import UserRole, folded
from openvcha.store import keys
from openvcha.store.interface import Store
from openvcha.store.records import Record


class _Account(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a stored user that decide."""

    role: UserRole
    generation: str


async def administrator_generation(store: Store, name: str) -> str | None:
    """Return the generation of an Administrator's password; None if there is none of this name.

    Raises StoreError.
    """
    found = await Record(store, keys.user(folded(name)), _Account).read_valid()
    if found is None or found.value.role is not UserRole.ADMINISTRATOR:
        return None
    return found.value.generation


prepare(__name__)

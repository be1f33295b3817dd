"""The accounts of the store, and the permissions of witnesses."""

from collections.abc import Collection

from openvcha.store import keys
from openvcha.store.account import AccountSource
from openvcha.store.interface import Permission, StoreWithAccounts


def witness_permissions(member: str) -> tuple[Permission, ...]:
    """Return the permissions of a witness: it reads the leader key, and writes its own reports."""
    return (
        Permission(keys.ROOT[:1]),  # its client reads this key to check for a quorum
        Permission(keys.CLUSTER),
        Permission(keys.PATRONI_LEADER),
        Permission(keys.PATRONI_SYNC),
        Permission(keys.node(member), write=True),
        Permission(keys.REQUIRED_VOTES),
        Permission(keys.required_votes_confirmed(member), write=True),
    )


async def remove_unknown_accounts(
    store: StoreWithAccounts, own: AccountSource, witnesses: Collection[str]
) -> None:
    """Remove all accounts but the data nodes' ``own`` one and those of these witnesses.

    A name like that of a data node, or of its account, is no exception: an attacker may have
    created it. The remaining accounts lose any extra permissions, and ``root`` gets an unknown
    password.
    """
    others = {member: witness_permissions(member) for member in witnesses}
    await store.accounts.revoke_others(own(), others)

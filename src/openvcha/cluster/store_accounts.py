"""Which accounts the store has, and what those of witnesses are for."""

from collections.abc import Collection

from openvcha.store import keys
from openvcha.store.account import AccountSource
from openvcha.store.interface import GuardedStore, Permission


def of_witness(member: str) -> tuple[Permission, ...]:
    """Return all that a witness needs: it looks who leads, and reports on itself alone."""
    return (
        Permission(keys.ROOT[:1]),  # its client asks for this key whether there is a quorum
        Permission(keys.CLUSTER),
        Permission(keys.PATRONI_LEADER),
        Permission(keys.PATRONI_SYNC),
        Permission(keys.node(member), write=True),
        Permission(keys.REQUIRED_VOTES),
        Permission(keys.heeded(member), write=True),
    )


async def forget_strangers(
    store: GuardedStore, own: AccountSource, witnesses: Collection[str]
) -> None:
    """Let in no more who has neither the data nodes' ``own`` account nor one of these witnesses'.

    A name like that of a data node, or of its account, spares nobody: a thief may have made one.
    Nor may who is left do more than it is for; and nobody knows the password of ``root``.
    """
    others = {member: of_witness(member) for member in witnesses}
    await store.accounts.keep_only(own(), others)

"""Etcd's own users and roles: what each of its clients may read and write."""

import contextlib
import secrets
from collections.abc import Sequence
from typing import Final

from openvcha.api.secret import Secret
from openvcha.store import wire
from openvcha.store.account import Account
from openvcha.store.errors import AccountExists, AccountMissing, NotProtected
from openvcha.store.gateway import AUTHENTICATE, Gateway
from openvcha.store.protocol import Permission

ROOT: Final = "root"
"""The account that etcd wants there to be, and the role that may do everything."""
PASSWORD_BYTES: Final = 24


class EtcdAccounts:
    """The accounts of a store that is asked over its gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def protect(self, own: Account) -> None:
        """Ask everybody for an account from now on; ``own`` may do everything.

        Etcd wants an account ``root``. Nobody has its password, which is made for the moment.
        """
        if await self._protected(own):
            return
        nobody = Account(name=ROOT, password=Secret(secrets.token_urlsafe(PASSWORD_BYTES)))
        for account in (nobody, own):
            await self._write(account)
            await self._ask("user/grant", {"user": account.name, "role": ROOT})
        await self._ask("enable", {})

    async def names(self) -> frozenset[str]:
        """Name all accounts but the one that nobody has; none while the store asks for none."""
        try:
            found = await self._gateway.read("/v3/auth/user/list", {})
        except NotProtected:
            return frozenset()
        return frozenset(found.get("users", ())) - {ROOT}

    async def admit(self, account: Account, permissions: Sequence[Permission]) -> None:
        """Let an account do just this; one of its name gets the password."""
        with contextlib.suppress(AccountExists):
            await self._ask("role/add", {"name": account.name})
        for permission in permissions:
            await self._ask("role/grant", {"name": account.name, "perm": _encoded(permission)})
        await self._write(account)
        await self._ask("user/grant", {"user": account.name, "role": account.name})

    async def forget(self, name: str) -> None:
        """Let an account in no more, and end what it was let in to."""
        for kind, field in (("user", "name"), ("role", "role")):
            with contextlib.suppress(AccountMissing):
                await self._ask(f"{kind}/delete", {field: name})

    async def _protected(self, own: Account) -> bool:
        shown = {"name": own.name, "password": own.password.reveal()}
        try:
            await self._gateway.read(AUTHENTICATE, shown)
        except NotProtected:
            return False
        return True

    async def _write(self, account: Account) -> None:
        fields = {"name": account.name, "password": account.password.reveal()}
        try:
            await self._ask("user/add", fields)
        except AccountExists:
            await self._ask("user/changepw", fields)

    async def _ask(self, what: str, body: wire.Json) -> None:
        await self._gateway.write(f"/v3/auth/{what}", body)


def _encoded(permission: Permission) -> wire.Json:
    kind = "READWRITE" if permission.write else "READ"
    key = permission.key
    below = key.endswith("/") and len(key) > 1
    return {"permType": kind, **wire.range_of(key, prefix=below)}

"""etcd's users and roles: what each client may read and write."""

import contextlib
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from openvcha.api.secret import Secret
from openvcha.store.account import Account
from openvcha.store.errors import AccountExists, AccountMissing, AuthDisabled
from openvcha.store.etcd import reply_forms, wire
from openvcha.store.etcd.gateway import AUTHENTICATE, Gateway, GatewayRequest
from openvcha.store.etcd.reply_forms import Json
from openvcha.store.interface import Permission

ROOT: Final = "root"
"""The account that etcd requires, and the role with all permissions."""
PASSWORD_BYTES: Final = 24


class EtcdAccounts:
    """The accounts of etcd, over its gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def enable_auth(self, own: Account) -> None:
        """Require an account of every client from now on; ``own`` gets all permissions.

        etcd requires an account ``root``; its password is random and not kept.
        """
        if await self._protected(own):
            return
        for account in (_nobody(), own):
            await self.grant_all(account)
        await self._ask("enable", {})

    async def grant_all(self, account: Account) -> None:
        """Create an account with all permissions; set the password of an existing one."""
        await self._write(account)
        await self._ask("user/grant", {"user": account.name, "role": ROOT})

    async def revoke_others(
        self, own: Account | None, others: Mapping[str, Sequence[Permission]]
    ) -> None:
        """Revoke everything that ``own`` and ``others`` do not need.

        That includes accounts, roles, extra permissions, and root's password: a client that had all
        permissions for a moment may have created a back door.
        """
        known = await self.list_names()
        if own is None or not known:
            return  # auth is not enabled yet
        for name in known - {own.name, *others}:
            await self.delete(name)
        await self._write(_nobody())
        for role in set(await self._list("role")) - {ROOT, *others}:
            await self._ask("role/delete", {"role": role})
        for user, role in {ROOT: ROOT, **{name: name for name in others}, own.name: ROOT}.items():
            await self._leave_role(user, role)
        for name, permissions in others.items():
            await self._leave_permissions(name, permissions)

    async def list_names(self) -> frozenset[str]:
        """Return the names of all accounts except root; empty while auth is disabled."""
        try:
            found = await self._list("user")
        except AuthDisabled:
            return frozenset()
        return frozenset(found) - {ROOT}

    async def grant(self, account: Account, permissions: Sequence[Permission]) -> None:
        """Create an account with these permissions; set the password of an existing one."""
        with contextlib.suppress(AccountExists):
            await self._ask("role/add", {"name": account.name})
        for permission in permissions:
            await self._ask("role/grant", {"name": account.name, "perm": _encoded(permission)})
        await self._write(account)
        await self._ask("user/grant", {"user": account.name, "role": account.name})

    async def delete(self, name: str) -> None:
        """Delete an account and its role."""
        for kind, field in (("user", "name"), ("role", "role")):
            with contextlib.suppress(AccountMissing):
                await self._ask(f"{kind}/delete", {field: name})

    async def _leave_role(self, user: str, role: str) -> None:
        with contextlib.suppress(AccountMissing):
            roles = partial(reply_forms.texts, name="roles")
            found = await self._gateway.read(
                GatewayRequest("/v3/auth/user/get", {"name": user}, roles)
            )
            for other in set(found) - {role}:
                await self._ask("user/revoke", {"name": user, "role": other})

    async def _leave_permissions(self, role: str, permissions: Sequence[Permission]) -> None:
        """Update the permissions of a role where they differ; a range identifies each of them."""
        encoded = map(_encoded, permissions)
        wanted = {(one["key"], one.get("range_end", "")): one for one in encoded}
        with contextlib.suppress(AccountMissing):
            asked = GatewayRequest("/v3/auth/role/get", {"role": role}, wire.permissions)
            there = await self._gateway.read(asked)
            for key, end in there.keys() - wanted.keys():
                await self._ask("role/revoke", {"role": role, "key": key, "range_end": end})
            for place, one in wanted.items():
                if (there.get(place) or "READ") != one["permType"]:
                    await self._ask("role/grant", {"name": role, "perm": one})

    async def _list(self, kind: str) -> Sequence[str]:
        names = partial(reply_forms.texts, name=f"{kind}s")
        return await self._gateway.read(GatewayRequest(f"/v3/auth/{kind}/list", {}, names))

    async def _protected(self, own: Account) -> bool:
        shown = {"name": own.name, "password": own.password.reveal()}
        try:
            await self._gateway.read(GatewayRequest(AUTHENTICATE, shown, wire.nothing))
        except AuthDisabled:
            return False
        return True

    async def _write(self, account: Account) -> None:
        fields = {"name": account.name, "password": account.password.reveal()}
        try:
            await self._ask("user/add", fields)
        except AccountExists:
            await self._ask("user/changepw", fields)

    async def _ask(self, what: str, body: Json) -> None:
        await self._gateway.write(GatewayRequest(f"/v3/auth/{what}", body, wire.nothing))


def _nobody() -> Account:
    """Return the root account that etcd requires, with a random password that is not kept."""
    return Account(name=ROOT, password=Secret(secrets.token_urlsafe(PASSWORD_BYTES)))


def _encoded(permission: Permission) -> Json:
    kind = "READWRITE" if permission.write else "READ"
    key = permission.key
    below = key.endswith("/") and len(key) > 1
    return {"permType": kind, **wire.range_of(key, prefix=below)}

"""Etcd's own users and roles: what each of its clients may read and write."""

import contextlib
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from openvcha.api.secret import Secret
from openvcha.store.account import Account
from openvcha.store.errors import AccountExists, AccountMissing, NotProtected
from openvcha.store.etcd import reply_forms, wire
from openvcha.store.etcd.gateway import AUTHENTICATE, Gateway, Question
from openvcha.store.etcd.reply_forms import Json
from openvcha.store.interface import Permission

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
        for account in (_nobody(), own):
            await self.trust(account)
        await self._ask("enable", {})

    async def trust(self, account: Account) -> None:
        """Let an account do everything; one of its name gets the password."""
        await self._write(account)
        await self._ask("user/grant", {"user": account.name, "role": ROOT})

    async def keep_only(
        self, own: Account | None, others: Mapping[str, Sequence[Permission]]
    ) -> None:
        """Take back all that was given but what ``own`` and ``others`` are for.

        That is accounts, roles, what is beyond ``others`` in theirs, and root's password: whoever
        could do everything for a moment may have left himself a way back.
        """
        known = await self.names()
        if own is None or not known:
            return  # the store asks nobody for an account yet
        for name in known - {own.name, *others}:
            await self.forget(name)
        await self._write(_nobody())
        for role in set(await self._list("role")) - {ROOT, *others}:
            await self._ask("role/delete", {"role": role})
        for user, role in {ROOT: ROOT, **{name: name for name in others}, own.name: ROOT}.items():
            await self._leave_role(user, role)
        for name, permissions in others.items():
            await self._leave_permissions(name, permissions)

    async def names(self) -> frozenset[str]:
        """Name all accounts but the one that nobody has; none while the store asks for none."""
        try:
            found = await self._list("user")
        except NotProtected:
            return frozenset()
        return frozenset(found) - {ROOT}

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

    async def _leave_role(self, user: str, role: str) -> None:
        with contextlib.suppress(AccountMissing):
            roles = partial(reply_forms.texts, name="roles")
            found = await self._gateway.read(Question("/v3/auth/user/get", {"name": user}, roles))
            for other in set(found) - {role}:
                await self._ask("user/revoke", {"name": user, "role": other})

    async def _leave_permissions(self, role: str, permissions: Sequence[Permission]) -> None:
        """Write anew what a role may do where it is not just this; ranges say what is the same."""
        encoded = map(_encoded, permissions)
        wanted = {(one["key"], one.get("range_end", "")): one for one in encoded}
        with contextlib.suppress(AccountMissing):
            asked = Question("/v3/auth/role/get", {"role": role}, wire.permissions)
            there = await self._gateway.read(asked)
            for key, end in there.keys() - wanted.keys():
                await self._ask("role/revoke", {"role": role, "key": key, "range_end": end})
            for place, one in wanted.items():
                if (there.get(place) or "READ") != one["permType"]:
                    await self._ask("role/grant", {"name": role, "perm": one})

    async def _list(self, kind: str) -> Sequence[str]:
        names = partial(reply_forms.texts, name=f"{kind}s")
        return await self._gateway.read(Question(f"/v3/auth/{kind}/list", {}, names))

    async def _protected(self, own: Account) -> bool:
        shown = {"name": own.name, "password": own.password.reveal()}
        try:
            await self._gateway.read(Question(AUTHENTICATE, shown, wire.nothing))
        except NotProtected:
            return False
        return True

    async def _write(self, account: Account) -> None:
        fields = {"name": account.name, "password": account.password.reveal()}
        try:
            await self._ask("user/add", fields)
        except AccountExists:
            await self._ask("user/changepw", fields)

    async def _ask(self, what: str, body: Json) -> None:
        await self._gateway.write(Question(f"/v3/auth/{what}", body, wire.nothing))


def _nobody() -> Account:
    """Make the account that etcd wants there to be, with a password that is kept nowhere."""
    return Account(name=ROOT, password=Secret(secrets.token_urlsafe(PASSWORD_BYTES)))


def _encoded(permission: Permission) -> Json:
    kind = "READWRITE" if permission.write else "READ"
    key = permission.key
    below = key.endswith("/") and len(key) > 1
    return {"permType": kind, **wire.range_of(key, prefix=below)}

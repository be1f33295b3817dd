"""By whom the store is asked: a name with its password, and the token that they are good for.

A member of the store keeps tokens in its memory only. One that was started anew knows none, and one
that was not asked for some minutes forgets them: then the account has to be shown again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A user of the store."""

    name: str
    password: Secret


DATA_PREFIX: Final = "data."
"""Begins the names of accounts of data nodes; no member has such a name."""

AccountSource = Callable[[], Account | None]
"""The account that counts now; None: the store lets in whoever has a certificate."""


class Pass:
    """The token of a client; renewed by one request at a time, whoever finds that it is void."""

    def __init__(self, account: AccountSource) -> None:
        self._account = account
        self._renewing = asyncio.Lock()
        self.token = ""

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that a request has to carry."""
        return {"Authorization": self.token} if self.token else {}

    async def renew(self, void: str, show: Callable[[Account], Awaitable[str]]) -> bool:
        """Get another token than ``void`` by ``show``; False when there is no account to show."""
        async with self._renewing:
            if self.token != void:
                return True  # somebody else has just been let in
            account = self._account()
            if account is None:
                return False
            self.token = await show(account)
            return True


prepare(__name__)

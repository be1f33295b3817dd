"""The account that a client of the store uses, and its authentication token.

A member keeps tokens only in memory: it loses them when it restarts, and drops a token that is
unused for some minutes. Then the client has to authenticate again.
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
"""Prefix of the accounts of data nodes; no member's name begins with it."""

AccountSource = Callable[[], Account | None]
"""Returns the current account; None: the store requires only a certificate."""


class AuthToken:
    """The token of a client. One request at a time renews it when a member refuses it."""

    def __init__(self, account: AccountSource) -> None:
        self._account = account
        self._renewing = asyncio.Lock()
        self.token = ""

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a request."""
        return {"Authorization": self.token} if self.token else {}

    async def renew(self, invalid: str, authenticate: Callable[[Account], Awaitable[str]]) -> bool:
        """Replace the token ``invalid`` by one from ``authenticate``; False without an account."""
        async with self._renewing:
            if self.token != invalid:
                return True  # another request has just renewed it
            account = self._account()
            if account is None:
                return False
            self.token = await authenticate(account)
            return True


prepare(__name__)

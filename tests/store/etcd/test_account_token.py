"""A client authenticates once, however many of its requests find their token invalid."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.simulated.endpoints import Request, answer, endpoint, refuse

from openvcha.api.secret import Secret
from openvcha.store.account import Account
from openvcha.store.errors import (
    AuthenticationFailed,
    OutcomeUnknown,
    PermissionDenied,
    StoreUnavailable,
)
from openvcha.store.etcd.client import Etcd
from openvcha.store.etcd.gateway import AUTHENTICATE

OWN = Account(name="data-1", password=Secret("secret"))
FINE = answer(200, {"header": {"revision": "7"}})


@dataclass
class Guarded:
    """A simulated endpoint that accepts one token; ``asked`` are the paths, in order."""

    token: str = "first"
    asked: list[str] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)
    refusal: str = "etcdserver: invalid auth token"
    right: bool = True

    async def __call__(self, request: Request) -> None:
        self.asked.append(request.path)
        if request.path == AUTHENTICATE:
            self.shown.append(json.loads(request.body))
            await asyncio.sleep(0.05)
            await self._let_in(request)
        elif request.token == self.token:
            await FINE(request)
        else:
            await refuse(16, self.refusal, 401)(request)

    async def _let_in(self, request: Request) -> None:
        if self.right:
            await answer(200, {"header": {}, "token": self.token})(request)
        else:
            words = "etcdserver: authentication failed, invalid user ID or password"
            await refuse(3, words, 400)(request)


@asynccontextmanager
async def asking(*behaviours: Any, account: Account | None = OWN) -> AsyncIterator[Etcd]:
    async with endpoint(behaviours[0]) as first, endpoint(behaviours[-1]) as last:
        urls = [first, last][: len(behaviours)]
        async with Etcd(urls, None, timeout=5.0, account=lambda: account) as etcd:
            yield etcd


async def test_many_requests_show_the_account_once() -> None:
    """They wait for the one that does, and go on with its token."""
    guarded = Guarded()
    async with asking(guarded) as etcd:
        await asyncio.gather(*(etcd.put(f"a{number}", b"") for number in range(20)))
        assert guarded.shown == [{"name": "data-1", "password": "secret"}]
        guarded.token = "second"
        await asyncio.gather(*(etcd.get(f"a{number}") for number in range(20)))
        assert len(guarded.shown) == 2


@pytest.mark.parametrize(
    "words",
    [
        "etcdserver: invalid auth token",
        "etcdserver: user name is empty",
        "etcdserver: revision of auth store is old",
    ],
)
async def test_a_write_that_was_not_let_in_is_sure_to_be_not_done(words: str) -> None:
    """It is retried, and its outcome is never unknown."""
    guarded = Guarded(refusal=words)
    async with asking(guarded) as etcd:
        assert await etcd.put("a", b"") == 7
        guarded.token, guarded.right = "second", False
        with pytest.raises(AuthenticationFailed) as caught:
            await etcd.put("a", b"")
        assert not isinstance(caught.value, OutcomeUnknown)


async def test_a_member_that_is_behind_is_passed_over() -> None:
    """It has neither the token nor the account yet."""
    behind, guarded = Guarded(right=False), Guarded()
    async with asking(behind, guarded) as etcd:
        assert await etcd.put("a", b"") == 7
        assert AUTHENTICATE in behind.asked


async def test_without_an_account_nothing_is_shown() -> None:
    """And the refusal is raised."""
    guarded = Guarded()
    async with asking(guarded, account=None) as etcd:
        with pytest.raises(AuthenticationFailed):
            await etcd.put("a", b"")
    assert not guarded.shown


async def test_what_is_not_for_the_account_is_refused_at_once() -> None:
    """Neither another endpoint nor another token would help."""
    denied = refuse(7, "etcdserver: permission denied", 403)
    async with asking(denied) as etcd:
        with pytest.raises(PermissionDenied) as caught:
            await etcd.put("a", b"")
        assert not isinstance(caught.value, StoreUnavailable)

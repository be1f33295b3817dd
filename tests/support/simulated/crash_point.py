"""How a simulated process dies: at one of its moments, before or after what it does there."""

import asyncio

import pytest

from openvcha.store.errors import StoreUnavailable

SWEPT = pytest.mark.parametrize(
    "stride",
    [pytest.param(7, id="some"), pytest.param(1, id="all", marks=pytest.mark.soak)],
)
"""How far apart the moments are at which a process dies: each of them has a life of its own."""


class CrashPoint:
    """One process: it dies at its n-th moment, before or after its action there."""

    def __init__(self, dies_at: int | None = None, *, after: bool = False) -> None:
        self._dies_at = dies_at
        self._after = after
        self.moments = 0
        self.died = asyncio.Event()

    async def before(self) -> None:
        """Count an effect that is about to happen, and perhaps die before it."""
        self.check()
        self.moments += 1
        if not self._after:
            await self._perhaps_die()

    async def after(self) -> None:
        """Perhaps die after an effect."""
        if self._after:
            await self._perhaps_die()

    def check(self) -> None:
        """Raise StoreUnavailable if the process has died."""
        if self.died.is_set():
            raise StoreUnavailable("dead")

    async def _perhaps_die(self) -> None:
        if self.moments == self._dies_at:
            self.died.set()
            await asyncio.Event().wait()

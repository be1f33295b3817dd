"""The inventory in the store, and a copy of it in a file, for when the store does not answer.

A node that is to be powered on so that the store works again must be found without the store.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import msgspec

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.infrastructure.records import InventoryRecord
from openvcha.infrastructure.state import State
from openvcha.store.errors import StoreUnavailable
from openvcha.system.files.durable import write_durably

ResultT = TypeVar("ResultT")

NO_STORE = "this program does not use the store"


class InventoryStore(Protocol):
    """Where an inventory is: InventoryRecord, or KeptInventory."""

    async def load(self) -> State:
        """Return the state. Raises StoreError, ApiError RESOURCE_INACCESSIBLE."""
        ...

    async def load_or_copy(self) -> State:
        """Return the state, or a copy that may be old. Raises as ``load``."""
        ...

    async def change(
        self, step: Callable[[State], tuple[State, ResultT]], *, idempotent: bool = False
    ) -> ResultT:
        """Replace the state by that of ``step``, and return its result.

        Raises as ``InventoryRecord.change``, ApiError RESOURCE_INACCESSIBLE.
        """
        ...


class KeptInventory:
    """An inventory with a copy in a file; without a ``record``, only the copy."""

    def __init__(self, record: InventoryRecord | None, file: Path) -> None:
        self._record = record
        self._file = file
        self._kept: State | None = None

    async def load(self) -> State:
        """Return the state in the store: what a copy lacks may exist all the same."""
        if self._record is None:
            self._fail(NO_STORE)
        found = await self._record.load()
        await self._keep(found)
        return found

    async def load_or_copy(self) -> State:
        """Return the state, or its copy while the store does not answer."""
        if self._record is None:
            return await self._copy(NO_STORE)
        try:
            return await self.load()
        except StoreUnavailable as error:
            return await self._copy(str(error))

    async def change(
        self, step: Callable[[State], tuple[State, ResultT]], *, idempotent: bool = False
    ) -> ResultT:
        """Change the inventory in the store; the copy follows when it is next read."""
        if self._record is None:
            self._fail(NO_STORE)
        return await self._record.change(step, idempotent=idempotent)

    async def _keep(self, state: State) -> None:
        if state == self._kept:
            return
        # A full disk must not keep the inventory from being used.
        try:
            await asyncio.to_thread(write_durably, self._file, msgspec.json.encode(state))
        except OSError:
            return
        self._kept = state

    async def _copy(self, reason: str) -> State:
        try:
            content = await asyncio.to_thread(self._file.read_bytes)
            return msgspec.json.decode(content, type=State)
        except (FileNotFoundError, msgspec.DecodeError):
            self._fail(reason)

    def _fail(self, reason: str) -> NoReturn:
        fail(ErrorType.RESOURCE_INACCESSIBLE, message("hosts.inventory", reason))

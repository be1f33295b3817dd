"""The public address in its own thread, so that nothing else delays the clients' data.

A node that becomes the active has much to do at once: tasks, the API, observing the whole cluster.
On the same event loop, a connecting client would wait between any two of its messages.
"""

import asyncio
from collections.abc import Coroutine
from threading import Thread
from typing import Any, Self

from openvcha.node.address.forwarder import Forwarder
from openvcha.store.address_reports import AddressState


class ForwarderThread:
    """A forwarder that runs in its own thread; an async context manager.

    Its methods are those of Forwarder, callable from another event loop.
    """

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="public address", daemon=True)

    async def __aenter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Release the address and stop the thread."""
        try:
            await self.release()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    @property
    def held(self) -> bool:
        """Return whether the address is held."""
        return self._forwarder.held

    @property
    def state(self) -> AddressState:
        """Return whether the address is held, or why it could not be taken last."""
        return self._forwarder.state

    @property
    def port(self) -> int:
        """Return the port that it listens on. Raises ValueError if the address is not held."""
        return self._forwarder.port

    async def acquire(self) -> None:
        """Acquire the address. Raises OSError while another process holds it: retry then."""
        await self._in_thread(self._forwarder.acquire())

    async def wait_until_lost(self) -> None:
        """Wait until the address is no longer held, although nobody has released it."""
        await self._in_thread(self._forwarder.wait_until_lost())

    async def release(self) -> None:
        """Release the address: stop accepting, and end all connections at once."""
        await self._in_thread(self._forwarder.release())

    async def _in_thread(self, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

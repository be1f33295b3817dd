"""The public address on an interface, as the node's service sees it: it asks the helper for it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from openvcha.node.address import state
from openvcha.node.address.interface.lifetime import REFRESH_SECONDS, UNPROVEN
from openvcha.node.address.interface.protocol import (
    MAX_LINE_BYTES,
    MAX_TEXT_LENGTH,
    Answer,
    Command,
    Request,
    encode,
)
from openvcha.store.address_reports import AddressState
from openvcha.system.structlog_light import structlog

ANSWER_SECONDS: Final = 2.0
"""How long the helper may take; it asks the network for 0.12 s."""
RETRY_SECONDS: Final = 0.2
WATCH_SECONDS: Final = 5.0
"""How often a node that does not need its helper asks whether it answers."""

Sleep = Callable[[float], Awaitable[object]]

_log = structlog.get_logger(__name__)


class HelperUnreachableError(OSError):
    """The helper does not answer; the text says why."""


class Helper(Protocol):
    """The helper: HelperLink; tests replace it."""

    async def ask(self, request: Request) -> Answer:
        """Send a request, and return the answer. Raises HelperUnreachableError."""

    def close(self) -> None:
        """Close the connection: the helper then removes the address."""


class HelperLink:
    """A connection to the helper's socket, made when needed; one request at a time."""

    def __init__(self, path: str, *, seconds: float = ANSWER_SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request) -> Answer:
        """Send a request, and return the answer. Raises HelperUnreachableError."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._ask(request)
            except TimeoutError as error:
                self.close()
                raise HelperUnreachableError(f"its helper at {self._path} is silent") from error
            except (OSError, ValueError) as error:
                self.close()
                why = getattr(error, "strerror", None) or error
                raise HelperUnreachableError(f"its helper at {self._path}: {why}") from error
            except BaseException:
                self.close()  # the answer is still to come
                raise

    def close(self) -> None:
        """Close the connection: the helper then removes the address."""
        streams, self._streams = self._streams, None
        if streams:
            streams[1].transport.abort()

    async def _ask(self, request: Request) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._path, limit=MAX_LINE_BYTES)
        reader, writer = self._streams
        writer.write(encode(request))
        await writer.drain()
        line = await reader.readline()
        if not line:
            raise ConnectionResetError("it has closed the connection")
        return msgspec.json.decode(line, type=Answer)


async def obstacle(helper: Helper, interface: str, address: str) -> str:
    """Return why a helper could not hold an address on an interface; empty if it could."""
    try:
        answer = await helper.ask(Request(do="check", interface=interface, address=address))
    except HelperUnreachableError as error:
        return str(error)[:MAX_TEXT_LENGTH]
    finally:
        helper.close()
    return answer.reason if answer.state == "cannot" else ""


class InterfaceAddress:
    """The public address, which the kernel keeps only while this node is proven to lead.

    ``proven_until`` returns until when no other node can lead (`lifetime.boot_time`). Run `keep`
    all the time: it refreshes the address, and takes it again when it is lost.
    """

    def __init__(
        self,
        helper: Helper,
        interface: str,
        address: str,
        proven_until: Callable[[], float],
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._helper = helper
        self._interface = interface
        self._address = address
        self._proven_until = proven_until
        self._sleep = sleep
        self._wanted = False
        self._turn = asyncio.Lock()
        self._answer = Answer(state="nobody")
        self._changed = asyncio.Event()
        self._obstacle = ""

    @property
    def held(self) -> bool:
        """Return whether this node has the address, even if another machine has it too."""
        return self._answer.holds

    @property
    def state(self) -> AddressState:
        """Return who has the address, as the helper last said."""
        match self._answer.state:
            case "held":
                return state.HELD
            case "nobody":
                return state.NOBODY
            case "conflict":
                return state.conflict(self._answer.mac)
            case "cannot":
                return state.cannot(self._answer.reason)

    @property
    def obstacle(self) -> AddressState | None:
        """Return why this node, which does not lead, could not hold the address; None if it can."""
        return state.cannot(self._obstacle) if self._obstacle and not self._wanted else None

    async def acquire(self) -> None:
        """Acquire the address. Raises OSError, after a pause, while that is not possible: retry."""
        self._wanted = True
        await self._take()
        if not self.held:
            await self._sleep(RETRY_SECONDS)
            raise OSError(_describe(self._answer))

    async def wait_until_lost(self) -> None:
        """Wait until this node does not have the address any more, although it is to have it."""
        while self.held:
            self._changed.clear()
            await self._changed.wait()

    async def release(self) -> None:
        """Release the address at once."""
        self._wanted = False
        async with self._turn:
            if not self._wanted:
                await self._ask("release")
                self._helper.close()
                self._note(Answer(state="nobody"))

    async def keep(self) -> None:
        """Refresh the address while this node leads, until canceled."""
        try:
            while True:
                await self._sleep(REFRESH_SECONDS)
                if self.held:
                    await self.refresh()
                elif self._wanted:
                    await self._take()
        finally:
            self._helper.close()

    async def watch(self) -> None:
        """Look after the helper while this node does not lead, until canceled."""
        while True:
            await self.look()
            await self._sleep(WATCH_SECONDS)

    async def look(self) -> None:
        """Ask once whether the helper could hold the address, unless it is to hold it now."""
        async with self._turn:
            if not self._wanted:
                self._obstacle = await obstacle(self._helper, self._interface, self._address)

    async def refresh(self) -> None:
        """Refresh the address once; take it again if it is lost meanwhile."""
        async with self._turn:
            if self._wanted and self.held:
                await self._ask("refresh")
        if self._wanted and not self.held:
            await self._take()

    async def _take(self) -> None:
        async with self._turn:
            if self._wanted and not self.held:
                await self._ask("acquire")

    async def _ask(self, do: Command) -> None:
        until = self._proven_until()
        request = Request(
            do=do,
            interface=self._interface,
            address=self._address,
            until=0.0 if until == UNPROVEN else until,
        )
        try:
            answer = await self._helper.ask(request)
        except HelperUnreachableError as error:
            answer = Answer(state="cannot", reason=str(error)[:MAX_TEXT_LENGTH])
        self._note(answer)

    def _note(self, answer: Answer) -> None:
        before, self._answer = self._answer, answer
        self._changed.set()
        if (answer.state, answer.mac) != (before.state, before.mac):
            _log.info("public address", state=_describe(answer))


def _describe(answer: Answer) -> str:
    """Return what an answer means, for the log and for who waits."""
    match answer.state:
        case "held":
            return "this node holds it"
        case "nobody":
            return "this node does not hold it"
        case "conflict":
            return f"the machine with the MAC address {answer.mac} answers for it"
        case "cannot":
            return answer.reason

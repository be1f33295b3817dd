"""Whether a server accepts connections is found out without stopping this program."""

import asyncio
import struct
import time

import pytest
from tests.support.serving import serving

from openvcha.node.postgres.readiness import accepts_connections

SECONDS = 60.0


def error(code: bytes) -> bytes:
    body = b"SFATAL\0C" + code + b"\0Mno\0\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


WANTS_A_PASSWORD = b"R" + struct.pack("!ii", 8, 5)


@pytest.mark.parametrize(
    ("answer", "accepts"),
    [
        (WANTS_A_PASSWORD, True),
        (error(b"28000"), True),
        (error(b"53300"), True),
        (error(b"57P03"), False),
        (b"", False),
        (b"E", False),
        (b"E" + struct.pack("!i", 1 << 30), False),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
    ],
    ids=[
        "password",
        "refused role",
        "full",
        "starting",
        "gone",
        "cut off",
        "endless",
        "no database",
    ],
)
async def test_an_answer_is_judged_by_its_code(answer: bytes, accepts: bool) -> None:
    """One that refuses the login accepts connections; one that is starting does not."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!i", await reader.readexactly(4))
        assert b"user\0" in await reader.readexactly(size - 4)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with serving(talk) as port:
        assert await accepts_connections("127.0.0.1", port, SECONDS) is accepts
    assert not await accepts_connections("127.0.0.1", port, SECONDS)


async def test_a_silent_server_stops_nothing_here() -> None:
    """Regression: libpq's ping held Python's lock, and with it the loop, for five seconds."""

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    async with serving(talk) as port:
        ticking = asyncio.create_task(tick())
        begun = time.monotonic()
        assert not await accepts_connections("127.0.0.1", port, 1.0)
        assert time.monotonic() - begun >= 0.9
        ticking.cancel()
    assert ticks > 3

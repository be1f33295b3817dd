"""Knocking at a place of the cluster: who is silent, who answers, and who refuses us."""

import asyncio
import contextlib
import enum
import ssl
from dataclasses import dataclass

from openvcha.node.http import read_bounded


class Manner(enum.StrEnum):
    """How a place took the question. Only SILENT is no answer at all."""

    SILENT = "SILENT"  # no connection: it is off, or cannot be reached
    MUTE = "MUTE"  # takes the connection and says nothing: it hangs, or is just starting
    REFUSES = "REFUSES"  # takes us for none of its cluster, or is itself none of ours
    ANSWERS = "ANSWERS"


@dataclass(frozen=True)
class Knock:
    """What came back; ``body`` (cut at a bound) is empty unless it ANSWERS."""

    manner: Manner
    body: bytes = b""


async def knock(address: str, port: int, path: str, tls: ssl.SSLContext, seconds: float) -> Knock:
    """Ask for a page, at most ``seconds``; never raises for what the other side does."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address, port)
            await writer.start_tls(tls, server_hostname=address)
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
            body = (await read_bounded(reader)).partition(b"\r\n\r\n")[2]
    except ssl.SSLError:
        return Knock(Manner.REFUSES)
    except (OSError, TimeoutError):
        return Knock(Manner.MUTE if writer else Manner.SILENT)
    finally:
        if writer:
            with contextlib.suppress(OSError):
                writer.transport.abort()
    return Knock(Manner.ANSWERS if body else Manner.MUTE, body)

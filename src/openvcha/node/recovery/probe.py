"""A probe of an address of the cluster: whether it is silent, responds, or refuses us."""

import asyncio
import contextlib
import enum
import ssl
from dataclasses import dataclass

from openvcha.node.http import body_of, read_bounded


class ReplyKind(enum.StrEnum):
    """How an address responded. Only SILENT is no response at all."""

    SILENT = "SILENT"  # no connection: it is off or unreachable
    MUTE = "MUTE"  # accepts the connection but sends nothing: it hangs, or is still starting
    REFUSES = "REFUSES"  # one side does not trust the other's certificate
    ANSWERS = "ANSWERS"


@dataclass(frozen=True)
class ProbeReply:
    """The reply; ``body`` (truncated) is empty unless it ANSWERS."""

    manner: ReplyKind
    body: bytes = b""


async def probe(
    address: str, port: int, path: str, tls: ssl.SSLContext, seconds: float
) -> ProbeReply:
    """Request a page, within ``seconds``; never raises for the other side's behavior."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address, port)
            await writer.start_tls(tls, server_hostname=address)
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
            body = body_of(await read_bounded(reader))
    except ssl.SSLError:
        return ProbeReply(ReplyKind.REFUSES)
    except (OSError, TimeoutError):
        return ProbeReply(ReplyKind.MUTE if writer else ReplyKind.SILENT)
    finally:
        if writer:
            with contextlib.suppress(OSError):
                writer.transport.abort()
    return ProbeReply(ReplyKind.ANSWERS, body) if body else ProbeReply(ReplyKind.MUTE)

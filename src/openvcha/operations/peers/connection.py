"""HTTP to a peer over TLS; the certificate is verified on the very connection that is used.

A check on one connection proves nothing about the next one: an attacker in between can relay the
first and answer the second. So on each connection the client verifies the certificate of the
handshake before it writes, and a later connection must present the certificate of the first one.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import h11

from openvcha.system.network.host_port import host_port

MAX_RESPONSE_BYTES = 1 << 20
"""The most bytes that are read of a response; no vCenter sends a longer one."""
_PIECE = 1 << 16

CertificateRule = Callable[[bytes], bool]
"""Returns whether a certificate (DER) is the expected one."""


class PeerUnverified(Exception):  # noqa: N818 - reads as what happened
    """The peer presented a wrong certificate (``met``, DER)."""

    def __init__(self, met: bytes) -> None:
        super().__init__("the peer's certificate is not the expected one")
        self.met = met


class PeerUnreachable(Exception):  # noqa: N818 - a state of the world, not a fault of ours
    """The peer cannot be reached, or does not speak HTTP; the text says why."""


@dataclass(frozen=True)
class PeerResponse:
    """A response of any status; redirects are not followed."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Trust:
    """How to verify the certificate: by a rule, or by the authorities (None)."""

    rule: CertificateRule | None
    authorities: Path | None
    """PEM file of authorities that are trusted, besides the system's, if there is no rule."""

    def context(self) -> ssl.SSLContext:
        """Return the TLS context of a connection that carries requests."""
        if self.rule is not None:
            return unchecked()
        context = ssl.create_default_context()
        if self.authorities is not None:
            context.load_verify_locations(cafile=self.authorities)
        return context

    def accepts(self, met: bytes) -> bool:
        """Return whether the certificate of a finished handshake is trusted."""
        return self.rule is None or self.rule(met)


def unchecked() -> ssl.SSLContext:
    """Return a context that accepts any certificate; the caller verifies it before writing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass
class PeerConnection:
    """Sequential requests to one peer. Use it with ``async with``."""

    host: str
    port: int
    trust: Trust
    certificate: bytes = b""
    """The certificate that the peer presented (DER); empty before the first request."""
    _http: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        """Connect and verify the peer. Raises PeerUnverified, PeerUnreachable."""
        with _told():
            await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection at once."""
        self._close()

    async def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> PeerResponse:
        """Send a request and read the response. Raises PeerUnverified, PeerUnreachable."""
        with _told():
            if not self._usable():
                await self._connect()
            return await self._ask(method, target, headers, body)

    def _usable(self) -> bool:
        if self._streams is None or self._streams[0].at_eof():
            return False
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return self._http.our_state is h11.IDLE

    async def _connect(self) -> None:
        self._close()
        try:
            streams = await asyncio.open_connection(self.host, self.port, ssl=self.trust.context())
        except ssl.SSLCertVerificationError:
            raise PeerUnverified(await presented_certificate(self.host, self.port)) from None
        self._streams = streams
        met = _certificate_of(streams[1])
        if not self.trust.accepts(met) or self.certificate not in (b"", met):
            self._close()
            raise PeerUnverified(met)
        self.certificate = met
        self._http = h11.Connection(h11.CLIENT)

    async def _ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> PeerResponse:
        if self._streams is None:
            raise PeerUnreachable("the connection is closed")
        reader, writer = self._streams
        given = {"host": host_port(self.host, self.port), "accept": "application/json", **headers}
        given["content-length"] = str(len(body))
        for event in (
            h11.Request(method=method, target=target, headers=list(given.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            writer.write(self._http.send(event) or b"")
        await writer.drain()
        return await self._answer(reader)

    async def _answer(self, reader: asyncio.StreamReader) -> PeerResponse:
        status, body = 0, bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await reader.read(_PIECE))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_RESPONSE_BYTES:
                    raise PeerUnreachable(f"its response is longer than {MAX_RESPONSE_BYTES} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return PeerResponse(status, bytes(body))
            elif not isinstance(event, h11.InformationalResponse):
                raise PeerUnreachable("it closed the connection without a response")

    def _close(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()


async def presented_certificate(host: str, port: int) -> bytes:
    """Return the certificate (DER) that a peer presents; nothing is sent to it."""
    _, writer = await asyncio.open_connection(host, port, ssl=unchecked())
    try:
        return _certificate_of(writer)
    finally:
        writer.transport.abort()


def _certificate_of(writer: asyncio.StreamWriter) -> bytes:
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    met = tls.getpeercert(binary_form=True)
    if met is None:
        raise PeerUnreachable("it presented no certificate")
    return met


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one: an alert may come with the response
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PeerUnreachable(str(reason)) from error
    except h11.ProtocolError as error:
        raise PeerUnreachable(f"it does not speak HTTP: {error}") from error

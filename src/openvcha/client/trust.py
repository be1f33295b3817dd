"""TLS contexts with which a client verifies the server."""

import asyncio
import contextlib
import re
import ssl
import sys
from pathlib import Path

from openvcha.client.errors import CommandError, ServerUnreachable, ServerUntrusted
from openvcha.system.network.host_port import host_port
from openvcha.system.thumbprints import digits, has_thumbprint, thumbprint_sha256

CONNECT_SECONDS = 10.0
ENCODING_DER = 2
"""OpenSSL's number of the encoding."""
_SHA256 = re.compile(r"[0-9A-F]{64}")


def tls_by_authority(ca: Path | None) -> ssl.SSLContext:
    """Return a context that trusts an authority (PEM file), or the system's authorities.

    Raises CommandError if the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise CommandError(f"the certificates in {ca} cannot be used: {error}") from error


async def tls_by_thumbprint(host: str, port: int, thumbprint: str) -> ssl.SSLContext:
    """Return a context that trusts only the certificate with this SHA-256 thumbprint.

    Raises CommandError if the server presents another one or does not respond.
    """
    if not _SHA256.fullmatch(digits(thumbprint)):
        raise CommandError(f"{thumbprint!r} is not a SHA-256 thumbprint (64 hexadecimal digits)")
    met = await fetch_certificate(host, port)
    if not has_thumbprint(met, thumbprint):
        place, shown = host_port(host, port), thumbprint_sha256(met)
        raise CommandError(f"{place} presented another certificate, with thumbprint {shown}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is trusted, whatever names it contains
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=met)
    return context


async def tls_by_authority_thumbprint(host: str, port: int, thumbprint: str) -> ssl.SSLContext:
    """Return a context that trusts only the authority with this SHA-256 thumbprint.

    The server must present the authority's certificate with its own, and be named in its own.
    Raises ServerUntrusted if it presents another one, ServerUnreachable if it does not respond.
    """
    try:
        met = await _fetch_chain(host, port)
    except CommandError as error:
        raise ServerUnreachable(str(error)) from error
    authority = next((each for each in met if has_thumbprint(each, thumbprint)), None)
    if authority is None or not _SHA256.fullmatch(digits(thumbprint)):
        raise ServerUntrusted(
            f"{host_port(host, port)} is not certified by the cluster's authority"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    return context


async def fetch_certificate(host: str, port: int) -> bytes:
    """Return a server's certificate (DER), unverified. Raises CommandError."""
    return (await _fetch_chain(host, port))[0]


async def _fetch_chain(host: str, port: int) -> list[bytes]:
    """Return the certificates (DER) that a server presents, its own first, unverified.

    Raises CommandError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent; the caller compares the certificates
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as error:
        reason = str(error) or "no response"
        raise CommandError(f"{host_port(host, port)} cannot be reached: {reason}") from error
    met = _chain(writer.get_extra_info("ssl_object"))
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    if not met:
        raise CommandError(f"{host_port(host, port)} presented no certificate")
    return met


def _chain(tls: ssl.SSLObject) -> list[bytes]:
    if sys.version_info >= (3, 13):
        return tls.get_unverified_chain()
    # Until Python 3.13 only the object inside has this method; it may return None.
    inside = tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
    return [each.public_bytes(ENCODING_DER) for each in inside.get_unverified_chain() or ()]

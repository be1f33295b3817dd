"""TLS contexts with which a client verifies the server."""

import asyncio
import contextlib
import re
import ssl
from pathlib import Path

from openvcha.client.errors import CommandError
from openvcha.system.host_port import host_port
from openvcha.system.thumbprints import digits, has_thumbprint, thumbprint_sha256

CONNECT_SECONDS = 10.0
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


async def fetch_certificate(host: str, port: int) -> bytes:
    """Return a server's certificate (DER), unverified. Raises CommandError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent; the caller compares the certificate
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as error:
        reason = str(error) or "no response"
        raise CommandError(f"{host_port(host, port)} cannot be reached: {reason}") from error
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    met = tls.getpeercert(binary_form=True)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    if met is None:
        raise CommandError(f"{host_port(host, port)} presented no certificate")
    return met

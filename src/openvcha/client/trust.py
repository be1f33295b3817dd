"""How a client knows that it talks to the right server."""

import asyncio
import contextlib
import hashlib
import hmac
import re
import ssl
from pathlib import Path

from openvcha.client.errors import LabFailed

CONNECT_SECONDS = 10.0
_SHA256 = re.compile(r"[0-9A-F]{64}")


def by_authority(ca: Path | None) -> ssl.SSLContext:
    """Trust what an authority has issued (PEM file), or the system's authorities.

    Raises LabFailed when the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise LabFailed(f"the certificates in {ca} cannot be used: {error}") from error


async def by_thumbprint(host: str, port: int, thumbprint: str) -> ssl.SSLContext:
    """Trust the one certificate with this SHA-256 thumbprint, if the server shows it.

    Raises LabFailed when it shows another or does not answer.
    """
    wanted = thumbprint.replace(":", "").replace(" ", "").upper()
    if not _SHA256.fullmatch(wanted):
        raise LabFailed(f"{thumbprint!r} is not a SHA-256 thumbprint (64 hexadecimal digits)")
    met = await met_certificate(host, port)
    digest = hashlib.sha256(met)
    if not hmac.compare_digest(digest.hexdigest().upper(), wanted):
        shown = digest.digest().hex(":").upper()
        raise LabFailed(f"{host}:{port} presented another certificate, with thumbprint {shown}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is known, whatever names are in it
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=met)
    return context


async def met_certificate(host: str, port: int) -> bytes:
    """Return the certificate (DER) that a server shows, unverified. Raises LabFailed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent; the certificate is compared
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as error:
        reason = str(error) or "no response"
        raise LabFailed(f"{host}:{port} cannot be reached: {reason}") from error
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    met = tls.getpeercert(binary_form=True)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    if met is None:
        raise LabFailed(f"{host}:{port} presented no certificate")
    return met

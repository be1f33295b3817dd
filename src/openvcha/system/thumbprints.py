"""Thumbprints of certificates, as vSphere writes them: `AA:BB:...`."""

import hashlib
import hmac
import re
import ssl
from typing import Final

SHA1_DIGITS: Final = 40
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def thumbprint_sha1(certificate: bytes) -> str:
    """Return the SHA-1 thumbprint of a DER certificate, or of the first one in a PEM file."""
    return _written(_sha1(_der(certificate)))


def thumbprint_sha256(certificate: bytes) -> str:
    """Return the SHA-256 thumbprint of a DER certificate, or of the first one in a PEM file."""
    return _written(_sha256(_der(certificate)))


def digits(thumbprint: str) -> str:
    """Return a thumbprint's digits in upper case, without separators."""
    return thumbprint.replace(":", "").replace(" ", "").upper()


def has_thumbprint(der: bytes, thumbprint: str) -> bool:
    """Return whether a certificate (DER) has this thumbprint: SHA-1 if it has 40 digits."""
    wanted = digits(thumbprint)
    digest = _sha1 if len(wanted) == SHA1_DIGITS else _sha256
    return hmac.compare_digest(digest(der).hex().upper(), wanted)


def _sha1(der: bytes) -> bytes:
    # The API's clients send SHA-1; it only identifies a certificate.
    return hashlib.sha1(der, usedforsecurity=False).digest()


def _sha256(der: bytes) -> bytes:
    return hashlib.sha256(der).digest()


def _written(digest: bytes) -> str:
    return digest.hex(":").upper()


def _der(certificate: bytes) -> bytes:
    # Only at the very beginning: a DER certificate may have PEM, of another one, in its fields.
    found = _PEM.match(certificate.lstrip())
    return ssl.PEM_cert_to_DER_cert(found[0].decode("ascii")) if found else certificate

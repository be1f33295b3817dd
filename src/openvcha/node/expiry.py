"""Until when a certificate is valid, read by itself.

A node's supervisor looks at this for as long as it runs, and needs nothing else of certificates:
the library that makes them takes 8 MB.
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
"""The tag of a certificate's first field, which it need not have."""
TWO_DIGITS: Final = 0x17
FORMS: Final = {TWO_DIGITS: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""How X.509 writes a time, by its tag: until 2049, and from 2050 on."""
FIRST_YEAR, CENTURY = 1950, 100


def expiry(pem: bytes) -> datetime:
    """Return the end of validity of the first certificate in ``pem``. Raises ValueError."""
    text = pem.decode("ascii", errors="replace")
    begin = text.find(ssl.PEM_HEADER)
    end = text.find(ssl.PEM_FOOTER, begin)
    if begin < 0 or end < 0:
        raise ValueError("it holds no certificate in PEM")
    certificate = _content(ssl.PEM_cert_to_DER_cert(text[begin : end + len(ssl.PEM_FOOTER)]))
    fields = list(_values(_content(certificate)))
    if fields and fields[0][0] == VERSION:
        del fields[0]
    try:
        _, _, _, (_, validity), *_ = fields  # serial number, signature, issuer
        _, (tag, until) = _values(validity)
        moment = datetime.strptime(until.decode("ascii"), FORMS[tag]).replace(tzinfo=UTC)
    except (KeyError, ValueError) as error:
        raise ValueError("its certificate does not say until when it is valid") from error
    if tag == TWO_DIGITS:
        # They are of 1950 to 2049, which is not how Python takes them.
        moment = moment.replace(year=(moment.year - FIRST_YEAR) % CENTURY + FIRST_YEAR)
    return moment


def _content(data: bytes) -> bytes:
    """Return what is in the sequence that ``data`` begins with. Raises ValueError."""
    tag, content = next(_values(data), (None, b""))
    if tag != SEQUENCE:
        raise ValueError("its certificate is of no known form")
    return content


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each value of DER. Raises ValueError."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1 : at + 2], at + 2
        length = int.from_bytes(size)
        if length >= 0x80:  # so many bytes of length follow
            size, at = data[at : at + length - 0x80], at + length - 0x80
            length = int.from_bytes(size)
        if not size or at + length > len(data):
            raise ValueError("its certificate ends too soon")
        yield tag, data[at : at + length]
        at += length

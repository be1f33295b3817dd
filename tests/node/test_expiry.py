"""Until when a certificate is valid, beside what the library for certificates says."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from openvcha.node.certificates import new_authority, node_certificate
from openvcha.node.expiry import expiry


def until(moment: dt.datetime) -> bytes:
    """Make a certificate that is valid until then."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(dt.datetime(1960, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(moment)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("year", [1968, 1999, 2000, 2026, 2049, 2050, 2068, 2069, 9999])
def test_every_year_is_the_one_that_the_certificate_names(year: int) -> None:
    """X.509 writes a time in two ways, one of them with two digits for the year."""
    moment = dt.datetime(year, 2, 28, 23, 59, 58, tzinfo=dt.UTC)
    assert expiry(until(moment)) == moment


def test_our_own_certificates_and_the_first_of_several() -> None:
    """A chain is judged by its own certificate, whatever stands before it."""
    authority = new_authority()
    own = node_certificate(authority, "a", "127.1.1.1").certificate
    said = x509.load_pem_x509_certificate(own).not_valid_after_utc
    assert expiry(own) == said
    assert expiry(b"of node a\n" + own + authority.certificate) == said


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"nothing",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMAMwAQ==\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMIQ=\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_is_one_error(bad: bytes) -> None:
    """The facts of a node go on without it."""
    with pytest.raises(ValueError, match="certificate"):
        expiry(bad)


def test_half_a_certificate_is_an_error_wherever_it_ends() -> None:
    """None of its bytes is read beyond its end."""
    whole = until(dt.datetime(2030, 1, 1, tzinfo=dt.UTC)).decode().splitlines()
    for kept in range(1, len(whole) - 1):
        cut = "\n".join([*whole[:kept], whole[-1]]).encode()
        with pytest.raises(ValueError, match=r"certificate|padding"):
            expiry(cut)

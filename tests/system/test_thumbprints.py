"""Thumbprints of certificates: formatting, parsing, comparison."""

import hashlib
import ssl

import pytest

from openvcha.node.security.certificates import KeyPair, new_authority
from openvcha.system.thumbprints import digits, has_thumbprint, thumbprint_sha1, thumbprint_sha256


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    """Return an authority, whose certificate is in PEM."""
    return new_authority("test")


def test_thumbprints_are_those_of_the_der_form(authority: KeyPair) -> None:
    """PEM and DER have the same thumbprint, written as vSphere does."""
    der = ssl.PEM_cert_to_DER_cert(authority.certificate.decode())
    assert thumbprint_sha1(authority.certificate) == thumbprint_sha1(der)
    assert thumbprint_sha256(der).replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    assert len(thumbprint_sha1(der)) == 20 * 3 - 1


def test_of_several_certificates_the_first_one_counts(authority: KeyPair) -> None:
    """While the CA is rotated, its file has two."""
    both = authority.certificate + new_authority("other").certificate
    assert thumbprint_sha256(both) == thumbprint_sha256(authority.certificate)


@pytest.mark.parametrize("make", [thumbprint_sha1, thumbprint_sha256])
def test_a_certificate_matches_its_own_thumbprint_only(authority: KeyPair, make: object) -> None:
    """In any case, with and without separators."""
    assert callable(make)
    der = ssl.PEM_cert_to_DER_cert(authority.certificate.decode())
    other = ssl.PEM_cert_to_DER_cert(new_authority("other").certificate.decode())
    for written in (make(der), digits(make(der)), make(der).lower().replace(":", " ")):
        assert has_thumbprint(der, written)
        assert not has_thumbprint(other, written)


def test_pem_inside_of_der_is_not_looked_for(authority: KeyPair) -> None:
    """Otherwise a forged certificate could borrow the thumbprint of the one in its fields."""
    forged = b"0\x82" + authority.certificate
    assert thumbprint_sha256(forged) != thumbprint_sha256(authority.certificate)
    assert not has_thumbprint(forged, thumbprint_sha256(authority.certificate))

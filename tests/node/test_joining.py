"""The directory of a node that joins, and the certificate for its key, which never leaves it."""

import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from openvcha.node.identity import IDENTITY
from openvcha.node.joining import (
    JOINING,
    JoinRefused,
    JoinRequest,
    abandon,
    begin,
    complete,
    request_certificate,
)
from openvcha.node.layout import CA_CERTIFICATE, NODE_CERTIFICATE, NODE_KEY
from openvcha.node.security.certificates import (
    KeyPair,
    certified_key,
    certify,
    new_authority,
    requested_key,
    signing_request,
)

ADDRESS = "127.83.2.12"
WANTED = JoinRequest(
    server="https://127.83.1.10:8443", role="passive", name="n", ha_address=ADDRESS
)


def given(authority: KeyPair, request: bytes) -> dict[str, bytes]:
    certificate = certify(authority, "n-1", ADDRESS, requested_key(request, ADDRESS))
    return {
        IDENTITY: b"{}",
        NODE_CERTIFICATE: certificate,
        CA_CERTIFICATE: authority.certificate,
    }


def test_what_is_begun_again_has_the_same_key(tmp_path: Path) -> None:
    """A crash before the answer costs nothing; the token is bound to this key."""
    first = requested_key(begin(tmp_path / "node", WANTED), ADDRESS)
    assert requested_key(begin(tmp_path / "node", WANTED), ADDRESS) == first


def test_it_is_whole_when_it_has_an_identity(tmp_path: Path) -> None:
    """All files are readable by their owner only, and the mark of the unfinished join is gone."""
    node = tmp_path / "node"
    answer = given(new_authority(), begin(node, WANTED))
    complete(node, {**answer, "records/roll.json": b"1\n{}"})
    found = {str(path.relative_to(node)): path for path in node.rglob("*") if path.is_file()}
    tls = {NODE_KEY, NODE_CERTIFICATE, CA_CERTIFICATE}
    assert set(found) == {IDENTITY, "records/roll.json", *tls}
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o600}
    assert {(node / name).stat().st_mode & 0o777 for name in ("tls", "records")} == {0o700}
    with pytest.raises(JoinRefused, match="already holds a node"):
        begin(node, WANTED)


def test_a_crash_before_the_mark_is_gone_is_gone_on_from(tmp_path: Path) -> None:
    """The identity exists, but other files may be missing: all are written again."""
    node = tmp_path / "node"
    answer = given(new_authority(), begin(node, WANTED))
    mark = (node / JOINING).read_bytes()
    complete(node, answer)
    (node / JOINING).write_bytes(mark)
    begin(node, WANTED)
    complete(node, answer)
    assert not (node / JOINING).exists()


def test_somebodys_files_are_not_touched(tmp_path: Path) -> None:
    """Nor those of a join begun as another node."""
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(JoinRefused, match="not empty"):
        begin(tmp_path, WANTED)
    begin(tmp_path / "node", WANTED)
    with pytest.raises(JoinRefused, match="was begun as passive n"):
        begin(tmp_path / "node", replace(WANTED, role="witness"))


def test_an_answer_for_another_key_is_refused(tmp_path: Path) -> None:
    """And one that would write outside the directory."""
    node = tmp_path / "node"
    request = begin(node, WANTED)
    with pytest.raises(JoinRefused, match="not for this node's key"):
        complete(node, given(new_authority(), signing_request(ADDRESS).certificate))
    answer = given(new_authority(), request)
    with pytest.raises(JoinRefused, match="does not belong to a node"):
        complete(node, answer | {"../letter": b""})
    assert not (node / IDENTITY).exists()


def test_no_answer_replaces_the_key(tmp_path: Path) -> None:
    """A key that the server has chosen would be known to it."""
    node = tmp_path / "node"
    answer = given(new_authority(), begin(node, WANTED))
    before = (node / NODE_KEY).read_bytes()
    with pytest.raises(JoinRefused, match="not for this node's key"):
        complete(node, answer | {NODE_KEY: signing_request(ADDRESS).key})
    assert (node / NODE_KEY).read_bytes() == before


def test_a_refused_join_leaves_nothing(tmp_path: Path) -> None:
    """The same command may be repeated, as another node too."""
    node = tmp_path / "node"
    begin(node, WANTED)
    abandon(node)
    assert not node.exists()
    begin(node, replace(WANTED, role="witness"))
    (node / "logs").mkdir()
    (node / "boot.json").write_text("{}")
    abandon(node, drop=("boot.json",))
    assert [path.name for path in node.iterdir()] == ["logs"]
    abandon(node)
    assert (node / "logs").is_dir()


def test_what_else_a_created_node_has_does_not_disturb(tmp_path: Path) -> None:
    """Its boot file and its logs exist before it joins; the boot file does not outlive that."""
    boot = replace(WANTED, server="")
    (tmp_path / "logs").mkdir()
    (tmp_path / "boot.json").write_text("{}")
    answer = given(new_authority(), request_certificate(tmp_path, boot))
    with pytest.raises(JoinRefused, match="for its boot file; continue"):
        request_certificate(tmp_path, replace(boot, name="another"))
    complete(tmp_path, answer, drop=("boot.json",))
    assert {path.name for path in tmp_path.iterdir()} == {"logs", "tls", IDENTITY}


def test_a_request_is_for_one_address_and_by_its_own_key() -> None:
    """Each error says what is wrong."""
    request = signing_request(ADDRESS).certificate
    with pytest.raises(ValueError, match="alone"):
        requested_key(request, "127.83.2.13")
    with pytest.raises(ValueError, match=r"."):
        requested_key(b"nonsense", ADDRESS)
    certificate = certify(new_authority(), "n", ADDRESS, requested_key(request, ADDRESS))
    assert certified_key(certificate) == requested_key(request, ADDRESS)


def _request(key: ec.EllipticCurvePrivateKey, *, named: bool = True) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if named:
        names = [x509.IPAddress(ipaddress.ip_address(ADDRESS))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_request_that_its_key_has_not_signed_is_refused() -> None:
    """Otherwise another's public key could be certified, or the request altered."""
    made = x509.load_pem_x509_csr(signing_request(ADDRESS).certificate)
    forged = bytearray(made.public_bytes(serialization.Encoding.DER))
    forged[-1] ^= 1
    request = x509.load_der_x509_csr(bytes(forged)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(ValueError, match="signature is wrong"):
        requested_key(request, ADDRESS)


def test_a_request_is_for_a_key_of_the_one_kind_and_names_its_address() -> None:
    """A request made by other tools gets a precise error."""
    good = ec.generate_private_key(ec.SECP256R1())
    assert requested_key(_request(good), ADDRESS)
    with pytest.raises(ValueError, match="P-256"):
        requested_key(_request(ec.generate_private_key(ec.SECP384R1())), ADDRESS)
    with pytest.raises(ValueError, match="names no address"):
        requested_key(_request(good, named=False), ADDRESS)

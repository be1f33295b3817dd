"""Everything that a new node gets before its first start."""

from openvcha.node.certificates import KeyPair, certify, node_certificate
from openvcha.node.identity import (
    IDENTITY,
    SECRETS,
    Identity,
    Secrets,
    encode_identity,
    encode_secrets,
)

CA_CERTIFICATE = "tls/ca.crt"
CA_KEY = "tls/ca.key"
NODE_CERTIFICATE = "tls/node.crt"
NODE_KEY = "tls/node.key"
API_CERTIFICATE = "tls/api.crt"
API_KEY = "tls/api.key"


def node_files(
    identity: Identity,
    authority: KeyPair,
    *,
    secrets: Secrets | None = None,
    api: KeyPair | None = None,
) -> dict[str, bytes]:
    """Give the files of a new node: relative path to content.

    A data node needs `secrets` and `api` (ValueError without them). A witness gets neither, nor
    the authority's key: whoever steals it can neither issue certificates nor read the database.
    """
    own = node_certificate(authority, identity.member, identity.ha_address)
    key = {NODE_KEY: own.key}
    return key | _files(identity, authority, own.certificate, secrets, api)


def joining_files(
    identity: Identity,
    authority: KeyPair,
    public_key: bytes,
    *,
    secrets: Secrets | None = None,
    api: KeyPair | None = None,
) -> dict[str, bytes]:
    """Give the same files, but for a node that has made its key itself and shows it to nobody."""
    certificate = certify(authority, identity.member, identity.ha_address, public_key)
    return _files(identity, authority, certificate, secrets, api)


def _files(
    identity: Identity,
    authority: KeyPair,
    certificate: bytes,
    secrets: Secrets | None,
    api: KeyPair | None,
) -> dict[str, bytes]:
    files = {
        IDENTITY: encode_identity(identity),
        CA_CERTIFICATE: authority.certificate,
        NODE_CERTIFICATE: certificate,
    }
    if not identity.holds_data:
        return files
    if secrets is None or api is None:
        raise ValueError("a data node needs the cluster's secrets and the API's certificate")
    return files | {
        SECRETS: encode_secrets(secrets),
        CA_KEY: authority.key,
        API_CERTIFICATE: api.certificate,
        API_KEY: api.key,
    }

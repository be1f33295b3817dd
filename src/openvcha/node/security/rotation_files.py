"""The request to rotate a node's credentials, and the preparation of its files."""

import asyncio
import secrets

import msgspec

from openvcha.api.secret import Secret
from openvcha.node.etcd.account import ACCOUNT, encode_account, new_data_account
from openvcha.node.identity import SECRETS, Identity, encode_secrets, load_secrets
from openvcha.node.layout import (
    CA_CERTIFICATE,
    CA_KEY,
    NODE_CERTIFICATE,
    NODE_KEY,
    POSTGRES_CERTIFICATE,
    Layout,
)
from openvcha.node.process.status import load_status
from openvcha.node.security.certificates import Authorities, new_authority, node_certificate
from openvcha.node.security.issuing import load_authorities, own_postgres_certificate
from openvcha.node.security.rotation import FILE_NAME, Rotation, rotation_path, save
from openvcha.system.thumbprints import thumbprint_sha256

PASSWORD_BYTES = 24
ROTATED_SECRETS = ("superuser", "replication", "rewind", "patroni_rest", "records")


class OwnCredentials:
    """The credentials of a node, for operations that request a rotation."""

    def __init__(self, layout: Layout, identity: Identity) -> None:
        self._layout = layout
        self._identity = identity

    def authority(self) -> str:
        """Return the thumbprint of the nodes' CA. Raises OSError."""
        return thumbprint_sha256(self._layout.ca.read_bytes())

    def service_authority(self) -> str:
        """Return the SHA-256 thumbprint of the CA that clients trust. Raises OSError."""
        return thumbprint_sha256(self._layout.service_ca.read_bytes())

    def pending(self) -> bool:
        """Return whether a rotation was requested and is not complete yet."""
        return rotation_path(self._layout).exists()

    def obstacle(self) -> str | None:
        """Return what blocks the rotation according to the supervisor's status, if anything."""
        status = load_status(self._layout.root)
        return status.notes.get(FILE_NAME) if status else None

    async def renew(self) -> None:
        """Request a rotation from the node's supervisor; idempotent while one is pending."""
        if not self.pending():
            await asyncio.to_thread(self._ask)

    def _ask(self) -> None:
        save(self._layout, prepare_rotation(self._layout, self._identity))


def prepare_rotation(layout: Layout, identity: Identity) -> Rotation:
    """Return a rotation with a new CA for nodes, this node's certificate, and new passwords.

    The CA that clients trust stays, so it does not affect them.
    """
    authority = new_authority(f"{identity.cluster_name} nodes")
    own = node_certificate(authority, identity.member, identity.ha_address)
    both = Authorities(nodes=authority, service=load_authorities(layout.root).service)
    new = {name: Secret(secrets.token_urlsafe(PASSWORD_BYTES)) for name in ROTATED_SECRETS}
    old = load_secrets(layout.root)
    # Records in the store have the old key's seals until they are resealed.
    changed = msgspec.structs.replace(old, **new, records_before=old.records)
    made = {
        CA_CERTIFICATE: authority.certificate,
        CA_KEY: authority.key,
        NODE_CERTIFICATE: own.certificate,
        NODE_KEY: own.key,
        POSTGRES_CERTIFICATE: own_postgres_certificate(identity, both, own.certificate),
        SECRETS: encode_secrets(changed),
        ACCOUNT: encode_account(new_data_account()),
    }
    return Rotation(files={path: Secret(content.decode()) for path, content in made.items()})

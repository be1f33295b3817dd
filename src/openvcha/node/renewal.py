"""A node that goes on alone decides anew who is a node: what the others had opens nothing any more.

All that is new is written down first, in one file. Then PostgreSQL gets the new passwords and the
store a new account of the data nodes, then the files take their places, then etcd starts with them
and Patroni and PostgreSQL read them. The file is taken away when all of them let the node in by
what is new, and the store has forgotten the old account. So after a crash anywhere it is gone
on with: until PostgreSQL has the new passwords by what the node had before, from then on by what
is new.
"""

import asyncio
import secrets
from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.node import files
from openvcha.node.account import ACCOUNT, encode_account, new_data_account
from openvcha.node.certificates import (
    Authorities,
    new_authority,
    node_certificate,
    thumbprint_sha256,
)
from openvcha.node.durable import sync_directory, write_durably
from openvcha.node.files import load_authorities, own_postgres_certificate
from openvcha.node.identity import (
    SECRETS,
    Identity,
    Secrets,
    conceal,
    encode_secrets,
    load_secrets,
    reveal,
)
from openvcha.node.layout import Layout
from openvcha.node.status import load_status
from openvcha.store.account import Account

NOTE = "renewal"
PASSWORD_BYTES = 24
RENEWED = ("superuser", "replication", "rewind", "patroni_rest", "records")


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """What is new: ``files`` are contents by their paths in the node's directory.

    ``entered``: PostgreSQL has the new passwords, and the store the new account.
    """

    files: dict[str, Secret]
    entered: bool = False

    @property
    def secrets(self) -> Secrets:
        """Give the new passwords."""
        text = self.files[SECRETS].reveal()
        return msgspec.json.decode(text, type=Secrets, dec_hook=conceal)

    @property
    def account(self) -> Account:
        """Return the new account of the data nodes."""
        text = self.files[ACCOUNT].reveal()
        return msgspec.json.decode(text, type=Account, dec_hook=conceal)


class OwnCredentials:
    """By what a node is let in, as those see it who ask for it to be made anew."""

    def __init__(self, layout: Layout, identity: Identity) -> None:
        self._layout = layout
        self._identity = identity

    def authority(self) -> str:
        """Give the thumbprint of the authority that says who is a node. Raises OSError."""
        return thumbprint_sha256(self._layout.ca.read_bytes())

    def pending(self) -> bool:
        """Tell whether it was asked for, and is not over."""
        return path_of(self._layout).exists()

    def hindrance(self) -> str | None:
        """Return what the node's supervisor says is in the way; None: nothing so far."""
        status = load_status(self._layout.root)
        return status.notes.get(NOTE) if status else None

    async def renew(self) -> None:
        """Ask the node's supervisor for it; asked again meanwhile it is the same one."""
        if not self.pending():
            await asyncio.to_thread(self._ask)

    def _ask(self) -> None:
        save(self._layout, prepared(self._layout, self._identity))


def path_of(layout: Layout) -> Path:
    """Name the file that holds what is new."""
    return layout.root / "renewal.json"


def load(layout: Layout) -> Renewal | None:
    """Read what is new; None when nothing is to be renewed. Raises msgspec.DecodeError."""
    try:
        return msgspec.json.decode(path_of(layout).read_bytes(), type=Renewal, dec_hook=conceal)
    except FileNotFoundError:
        return None


def save(layout: Layout, renewal: Renewal) -> None:
    """Keep what is new, readable by its owner only."""
    write_durably(path_of(layout), msgspec.json.encode(renewal, enc_hook=reveal))


def finish(layout: Layout) -> None:
    """Take the file away: what is new has become what is."""
    path_of(layout).unlink(missing_ok=True)
    sync_directory(layout.root)


def prepared(layout: Layout, identity: Identity) -> Renewal:
    """Make a new authority for nodes, this node's certificate of it, and new passwords.

    What clients trust stays: they notice nothing.
    """
    authority = new_authority(f"{identity.cluster_name} nodes")
    own = node_certificate(authority, identity.member, identity.ha_address)
    both = Authorities(nodes=authority, service=load_authorities(layout.root).service)
    new = {name: Secret(secrets.token_urlsafe(PASSWORD_BYTES)) for name in RENEWED}
    old = load_secrets(layout.root)
    # What stands in the store is sealed by the key before, until it is sealed anew.
    changed = msgspec.structs.replace(old, **new, records_before=old.records)
    made = {
        files.CA_CERTIFICATE: authority.certificate,
        files.CA_KEY: authority.key,
        files.NODE_CERTIFICATE: own.certificate,
        files.NODE_KEY: own.key,
        files.POSTGRES_CERTIFICATE: own_postgres_certificate(identity, both, own.certificate),
        SECRETS: encode_secrets(changed),
        ACCOUNT: encode_account(new_data_account()),
    }
    return Renewal(files={path: Secret(content.decode()) for path, content in made.items()})


def in_place(layout: Layout, renewal: Renewal) -> bool:
    """Tell whether all files are what is new."""
    return not _other(layout, renewal)


def put_in_place(layout: Layout, renewal: Renewal) -> None:
    """Replace the files that are not what is new; again after a crash."""
    for path, content in _other(layout, renewal).items():
        write_durably(layout.root / path, content)


def put_in_place_at_start(layout: Layout) -> None:
    """Before anything of the node runs: PostgreSQL knows only the new passwords already."""
    renewal = load(layout)
    if renewal is not None and renewal.entered:
        put_in_place(layout, renewal)


def _other(layout: Layout, renewal: Renewal) -> dict[str, bytes]:
    new = {path: text.reveal().encode() for path, text in renewal.files.items()}
    return {path: data for path, data in new.items() if (layout.root / path).read_bytes() != data}


prepare(__name__)

"""Rotation of a stand-alone node's credentials, which makes those of removed nodes useless.

The new credentials are first written to one file. Then PostgreSQL gets the new passwords and the
store a new account, the files are replaced, etcd restarts, and Patroni and PostgreSQL reload them.
The file is deleted once the node can log in everywhere with the new credentials and the store has
deleted the old account. So a rotation continues after a crash at any point: with the old
credentials until PostgreSQL has the new passwords, with the new ones from then on.
"""

from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret, conceal, reveal
from openvcha.node.etcd.account import ACCOUNT
from openvcha.node.identity import SECRETS, Secrets
from openvcha.node.layout import Layout
from openvcha.store.account import Account
from openvcha.system.files.durable import sync_directory, write_durably

FILE_NAME = "renewal"


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """A rotation: ``files`` are the new contents by path in the node's directory.

    ``entered``: PostgreSQL has the new passwords, and the store the new account.
    """

    files: dict[str, Secret]
    entered: bool = False

    @property
    def secrets(self) -> Secrets:
        """Return the new passwords."""
        text = self.files[SECRETS].reveal()
        return msgspec.json.decode(text, type=Secrets, dec_hook=conceal)

    @property
    def account(self) -> Account:
        """Return the new account of the data nodes."""
        text = self.files[ACCOUNT].reveal()
        return msgspec.json.decode(text, type=Account, dec_hook=conceal)


def rotation_path(layout: Layout) -> Path:
    """Return the path of the pending rotation."""
    return layout.root / "renewal.json"


def load(layout: Layout) -> Rotation | None:
    """Return the pending rotation, if any. Raises msgspec.DecodeError."""
    try:
        return msgspec.json.decode(
            rotation_path(layout).read_bytes(), type=Rotation, dec_hook=conceal
        )
    except FileNotFoundError:
        return None


def save(layout: Layout, rotation: Rotation) -> None:
    """Write the pending rotation; only the file's owner can read it."""
    write_durably(rotation_path(layout), msgspec.json.encode(rotation, enc_hook=reveal))


def finish(layout: Layout) -> None:
    """Delete the pending rotation, which is complete."""
    rotation_path(layout).unlink(missing_ok=True)
    sync_directory(layout.root)


def in_place(layout: Layout, rotation: Rotation) -> bool:
    """Return whether all files have the new contents."""
    return not _changed_files(layout, rotation)


def put_in_place(layout: Layout, rotation: Rotation) -> None:
    """Write the new contents of the files; idempotent."""
    for path, content in _changed_files(layout, rotation).items():
        write_durably(layout.root / path, content)


def put_in_place_at_start(layout: Layout) -> None:
    """Replace the files before the node starts, if PostgreSQL already has the new passwords."""
    rotation = load(layout)
    if rotation is not None and rotation.entered:
        put_in_place(layout, rotation)


def _changed_files(layout: Layout, rotation: Rotation) -> dict[str, bytes]:
    new = {path: text.reveal().encode() for path, text in rotation.files.items()}
    return {path: data for path, data in new.items() if (layout.root / path).read_bytes() != data}


prepare(__name__)

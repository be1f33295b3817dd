"""A node that goes on alone decides anew who is a node: what the others had opens nothing any more.

All that is new is written down first, in one file. Then PostgreSQL gets the new passwords and the
store a new account of the data nodes, then the files take their places, then etcd starts with them
and Patroni and PostgreSQL read them. The file is taken away when all of them let the node in by
what is new, and the store has forgotten the old account. So after a crash anywhere it is gone
on with: until PostgreSQL has the new passwords by what the node had before, from then on by what
is new.
"""

from pathlib import Path

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.node.etcd.account import ACCOUNT
from openvcha.node.identity import SECRETS, Secrets, conceal, reveal
from openvcha.node.layout import Layout
from openvcha.store.account import Account
from openvcha.system.durable import sync_directory, write_durably

NOTE = "renewal"


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """What is new: ``files`` are contents by their paths in the node's directory.

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


def in_place(layout: Layout, renewal: Renewal) -> bool:
    """Return whether all files are what is new."""
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

"""The SSH key of a data node: it is made on the node, and only the node can read it."""

from pathlib import Path

import asyncssh

from openvcha.system.files.durable import write_durably

COMMENT = "openvcha"
KIND = "ssh-ed25519"


def public_key(file: Path) -> str:
    """Return the public part of the key in a file, on one line; make the key if there is none.

    Raises OSError, ValueError if the file has no key.
    """
    try:
        key = asyncssh.read_private_key(str(file))
    except FileNotFoundError:
        key = asyncssh.generate_private_key(KIND, comment=COMMENT)
        write_durably(file, key.export_private_key())
    return key.export_public_key().decode().strip()

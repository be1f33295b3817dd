"""A node's account in the store: that of all data nodes, or that of one witness."""

import secrets
from pathlib import Path
from typing import Final

import msgspec

from openvcha.api.secret import Secret, conceal, reveal
from openvcha.store.account import DATA_PREFIX, Account
from openvcha.system.files.durable import write_durably

ACCOUNT: Final = "account.json"
PASSWORD_BYTES: Final = 24


def new_account(name: str) -> Account:
    """Return a new account with a random password."""
    return Account(name=name, password=Secret(secrets.token_urlsafe(PASSWORD_BYTES)))


def new_data_account() -> Account:
    """Return a new account for the data nodes of a cluster."""
    return new_account(f"{DATA_PREFIX}{secrets.token_hex(4)}")


def encode_account(account: Account) -> bytes:
    """Encode an account, in plain text, as the content of `account.json`."""
    return msgspec.json.encode(account, enc_hook=reveal)


def load_account(directory: Path) -> Account:
    """Read a node's account. Raises OSError or msgspec.DecodeError."""
    data = (directory / ACCOUNT).read_bytes()
    return msgspec.json.decode(data, type=Account, dec_hook=conceal)


def save_account(directory: Path, account: Account) -> None:
    """Replace a node's account; only its owner can read the file."""
    write_durably(directory / ACCOUNT, encode_account(account))


class NodeAccount:
    """The node's account, read at each call; None if it has none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self) -> Account | None:
        """Read the account. Raises OSError or msgspec.DecodeError."""
        try:
            return load_account(self._directory)
        except FileNotFoundError:
            return None

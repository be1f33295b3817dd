"""By whom a node asks the store: the account of all data nodes, or that of one witness."""

import secrets
from pathlib import Path
from typing import Final

import msgspec

from openvcha.api.secret import Secret
from openvcha.node.identity import conceal, reveal
from openvcha.store.account import DATA_PREFIX, Account
from openvcha.system.durable import write_durably

ACCOUNT: Final = "account.json"
PASSWORD_BYTES: Final = 24


def new_account(name: str) -> Account:
    """Make an account with a password that nobody can guess."""
    return Account(name=name, password=Secret(secrets.token_urlsafe(PASSWORD_BYTES)))


def new_data_account() -> Account:
    """Make an account for the data nodes of a cluster."""
    return new_account(f"{DATA_PREFIX}{secrets.token_hex(4)}")


def encode_account(account: Account) -> bytes:
    """Write an account, in the clear, as the bytes of `account.json`."""
    return msgspec.json.encode(account, enc_hook=reveal)


def load_account(directory: Path) -> Account:
    """Read a node's account. Raises OSError or msgspec.DecodeError."""
    data = (directory / ACCOUNT).read_bytes()
    return msgspec.json.decode(data, type=Account, dec_hook=conceal)


def save_account(directory: Path, account: Account) -> None:
    """Replace a node's account, readable by its owner only."""
    write_durably(directory / ACCOUNT, encode_account(account))


class NodeAccount:
    """The account that the node's file holds now; None when the node has none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self) -> Account | None:
        """Read the file. Raises OSError or msgspec.DecodeError."""
        try:
            return load_account(self._directory)
        except FileNotFoundError:
            return None

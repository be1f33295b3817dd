"""The configuration of the helper that holds the public address; only root can write it.

The node's account must not: whoever writes it chooses which address this machine answers for.
"""

import ipaddress
import os
import pwd
import stat
from pathlib import Path
from typing import Annotated, Final

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.address.interface.packets import HeldAddress
from openvcha.node.identity import Identity
from openvcha.node.public_interface import (
    ADDRESS_LIFETIME,
    HELPER_SOCKET,
    MAX_ADDRESS_LIFETIME,
    MIN_ADDRESS_LIFETIME,
    InterfaceName,
)
from openvcha.system.files.path_owners import opened

MODULE: Final = "openvcha.node.address.interface.helper"
"""The helper itself, for ``python -m``: it loads what its starter does not need."""
WITH_PARENT: Final = "--with-parent"
"""The option with which it ends when the process that started it does."""
DIRECTORY: Final = Path("/etc/openvcha/address")
MAX_BYTES: Final = 4096
OWN_ACCOUNT: Final = "openvcha-address"
"""The account of the helper, if the machine has it."""
UNPRIVILEGED_ID: Final = 65534
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class UnusableConfigError(ValueError):
    """The helper cannot use its configuration; the text says why."""


class HelperConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the helper may do, and for whom. ``user`` is the node's account, by name or number.

    ``prefix`` None stands for the address alone (/32 or /128). ``lifetime`` is in seconds, and the
    longest for which the address stays without a refresh. ``socket`` is an absolute path; only root
    can write to its directory. ``node`` is the node's directory: `vcha node run`, called by root,
    starts the helper of the node that it runs.
    """

    interface: InterfaceName
    address: str
    prefix: int | None = None
    lifetime: Annotated[int, msgspec.Meta(ge=MIN_ADDRESS_LIFETIME, le=MAX_ADDRESS_LIFETIME)] = (
        ADDRESS_LIFETIME
    )
    user: str | int
    socket: str = HELPER_SOCKET
    node: str = ""

    def held_address(self) -> HeldAddress:
        """Return the address that the helper may hold. Raises UnusableConfigError."""
        try:
            address = ipaddress.ip_address(self.address)
        except ValueError as error:
            raise UnusableConfigError(f"address: {error}") from error
        if address.is_multicast or address.is_unspecified or address.is_loopback:
            raise UnusableConfigError(f"address: {address} is no address of an interface")
        prefix = address.max_prefixlen if self.prefix is None else self.prefix
        if not 1 <= prefix <= address.max_prefixlen:
            raise UnusableConfigError(f"prefix: must be from 1 to {address.max_prefixlen}")
        return HeldAddress(self.interface, address, prefix, self.lifetime)

    def uid(self) -> int:
        """Return the uid of the node's account. Raises UnusableConfigError."""
        if isinstance(self.user, int):
            return self.user
        try:
            return pwd.getpwnam(self.user).pw_uid
        except KeyError as error:
            raise UnusableConfigError(f"user: there is no account {self.user}") from error


def config_for(identity: Identity, node: Path, user: str | int) -> HelperConfig:
    """Return the configuration for a node in a directory, run by an account.

    Raises ValueError if the node's public address is not on an interface.
    """
    if identity.public is None:
        raise ValueError(f"the public address of {identity.name} is not on an interface")
    return HelperConfig(
        interface=identity.public.interface,
        address=identity.public_address,
        prefix=identity.public.prefix,
        lifetime=identity.public.lifetime,
        user=user,
        socket=identity.public.helper,
        node=str(node),
    )


def encode_config(config: HelperConfig) -> bytes:
    """Return the content of the file."""
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


def read_config(path: Path) -> HelperConfig:
    """Read the configuration. Raises UnusableConfigError, CannotDropRoot, OSError."""
    with opened(path.parent) as directory:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path.name, flags, dir_fd=directory)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UnusableConfigError(f"{path} is not a regular file")
        if found.st_uid != 0 or found.st_mode & _OTHERS_WRITE:
            raise UnusableConfigError(f"{path} can be written by other accounts than root")
        data = os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)
    try:
        config = msgspec.json.decode(data, type=HelperConfig)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnusableConfigError(f"{path}: {error}") from error
    if not config.socket.startswith("/"):
        raise UnusableConfigError(f"{path}: socket must be an absolute path")
    config.held_address()
    return config


def find_config(node: Path, directory: Path = DIRECTORY) -> Path | None:
    """Return the path of the configuration for the node in a directory; None without one.

    Raises UnusableConfigError, CannotDropRoot, OSError.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return None
    return next((path for path in paths if read_config(path).node == str(node)), None)


def helper_account() -> tuple[int, int]:
    """Return the uid and gid with which the helper runs when root starts it."""
    try:
        account = pwd.getpwnam(OWN_ACCOUNT)
    except KeyError:
        return UNPRIVILEGED_ID, UNPRIVILEGED_ID
    return account.pw_uid, account.pw_gid


prepare(__name__)

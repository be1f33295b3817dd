"""The file and the unit with which root lets nodes hold a public address on its machine."""

from collections.abc import Sequence
from pathlib import Path

from openvcha.node.address.interface.helper_config import (
    DIRECTORY,
    HelperConfig,
    UnusableConfigError,
    encode_config,
    read_config,
)
from openvcha.node.service_manager.unit_files import PUBLIC, SYSTEMCTL, InstalledFile, Outcome
from openvcha.system.files.path_owners import CannotDropRoot

ADDRESSES = str(DIRECTORY.relative_to("/"))


class AnotherHelper(Exception):  # noqa: N818 - named after the condition
    """This machine has a helper for the address already; the text says which."""


def address_file(root: Path, config: HelperConfig) -> InstalledFile:
    """Return the file that permits nodes of an account to hold an address.

    Raises AnotherHelper if another file below the root does: their helpers would share a socket.
    """
    file = InstalledFile(f"{ADDRESSES}/{config.address}.json", encode_config(config), PUBLIC)
    for path in sorted((root / ADDRESSES).glob("*.json")):
        if path != root / file.path and _socket_of(path) == config.socket:
            raise AnotherHelper(f"{path} has a helper for {config.address} already: {_start(path)}")
    return file


def address_commands(address: str, outcome: Outcome) -> Sequence[tuple[str, ...]]:
    """Return the commands that start the helper of an address, now and with the machine."""
    unit = f"openvcha-address@{address}.service"
    # A restart lets go of the address: only one whose configuration has changed needs it.
    verb = "restart" if outcome is Outcome.WRITTEN else "start"
    return ((SYSTEMCTL, "enable", unit), (SYSTEMCTL, verb, unit))


def _socket_of(path: Path) -> str:
    try:
        return read_config(path).socket
    except (OSError, CannotDropRoot, UnusableConfigError):
        return ""


def _start(path: Path) -> str:
    return f"systemctl enable --now openvcha-address@{path.stem}"

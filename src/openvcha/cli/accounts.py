"""Running commands as the account that owns a lab or a node.

A command that changes a lab first drops root. A command that only reads it, or works on a node,
continues as the account that controls the directory: root does not follow links of other accounts.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openvcha.lab import folders
from openvcha.lab.errors import LabNotFound
from openvcha.lab.state import Lab
from openvcha.node.identity import IDENTITY, absolute
from openvcha.node.process.handover import require_stopped
from openvcha.system.accounts.privileges import (
    SystemAccount,
    account_in_control,
    account_works,
    act_as_controller,
    choose,
    drop_root,
    namespace_works,
    own_command_line,
)
from openvcha.system.files.path_owners import acting_as, controlling_uid, make_directories


def lab_as_owner(name: str, base: Path | None) -> Lab:
    """Return a lab, acting as its nodes' account. Raises CommandError, CannotDropRoot."""
    return _without_root(folders.find(name, base), base)


def readable_lab(name: str, base: Path | None) -> Lab:
    """Return a lab, acting as the account in control. Raises CommandError, CannotDropRoot."""
    lab = folders.find(name, base)
    _export_folder(lab, base)
    act_as_controller(own_command_line(), lab.directory)
    return lab


@contextmanager
def acting_as_controller(lab: Lab) -> Iterator[None]:
    """Act as the account that controls a lab, during a block. Raises CannotDropRoot."""
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0 and (uid := controlling_uid(lab.directory)):
            account = account_in_control(uid, lab.directory)
            stack.enter_context(acting_as(uid, account.pw_gid))
        yield


def node_directory(directory: Path) -> Path:
    """Return a node's directory, acting as the account that controls it. Raises CannotDropRoot."""
    act_as_controller(own_command_line(), directory)
    return absolute(directory)


def act_as_owner(directory: Path) -> None:
    """Become the account that controls a directory, or its parent. Raises CannotDropRoot."""
    act_as_controller(own_command_line(), directory, may_be_missing=True)


def new_directory(directory: Path) -> Path:
    """Create a node's directory, as the account in control. Raises CannotDropRoot, OSError."""
    act_as_owner(directory)
    _make(directory)
    return node_directory(directory)


def new_lab_as_owner(name: str, base: Path | None) -> Lab:
    """Return a lab, existing or new, acting as its nodes' account.

    Raises CommandError, CannotDropRoot.
    """
    try:
        return lab_as_owner(name, base)
    except LabNotFound:
        folder = folders.base_for_new_lab(base, _account(), base or folders.user_base())
        directory = folder.absolute() / name
        act_as_owner(directory)
        folders.check_directory(directory)
        _make(directory)
        return _without_root(Lab(directory), base)


def _make(directory: Path) -> None:
    if os.geteuid() == 0:
        make_directories(directory)
    else:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _without_root(lab: Lab, base: Path | None) -> Lab:
    if os.geteuid() == 0:
        _export_folder(lab, base)
        drop_root(own_command_line(), lab.directory, _require_lab)
    return lab


def _require_lab(directory: Path, *, changes_owner: bool) -> None:
    """Raise CommandError if it is not a lab's; CannotDropRoot as ``require_stopped`` does."""
    folders.check_directory(directory)
    if changes_owner:
        require_stopped([identity.parent for identity in directory.rglob(IDENTITY)])


def _export_folder(lab: Lab, base: Path | None) -> None:
    """Export the labs' folder in the environment: the new account may have another home."""
    if base is None and os.geteuid() == 0:
        os.environ[folders.VARIABLE] = str(lab.directory.parent)


def _account() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    match choose(0, account_works, namespace_works):
        case SystemAccount(name):
            account = pwd.getpwnam(name)
            return account.pw_uid, account.pw_gid
        case _:
            return None

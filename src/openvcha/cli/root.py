"""Whom a lab or a node belongs to, as whom commands work on it.

What changes a lab begins by giving up root. What only reads it, or works on a node, goes on as
whoever controls the directory: root does not follow what others have put there.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openvcha.client.errors import NoLab
from openvcha.lab import places
from openvcha.lab.state import Lab
from openvcha.node.identity import absolute
from openvcha.system.path_owners import acting_as, controlling_uid
from openvcha.system.privileges import (
    Account,
    account_works,
    act_as_controller,
    choose,
    drop_root,
    namespace_works,
    own_command_line,
)


def existing_lab(name: str, base: Path | None) -> Lab:
    """Find a lab, as whoever its nodes run as. Raises NoLab, LabFailed, CannotDropRoot."""
    return _without_root(places.find(name, base), base)


def found_lab(name: str, base: Path | None) -> Lab:
    """Find a lab, to read it, as whoever controls it. Raises NoLab, LabFailed, CannotDropRoot."""
    lab = places.find(name, base)
    _tell_folder(lab, base)
    act_as_controller(own_command_line(), lab.directory)
    return lab


@contextmanager
def viewing(lab: Lab) -> Iterator[None]:
    """Look at one lab of several as whoever controls it. Raises CannotDropRoot."""
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0 and (uid := controlling_uid(lab.directory)):
            stack.enter_context(acting_as(uid, lab.directory.lstat().st_gid))
        yield


def node_directory(directory: Path) -> Path:
    """Return a node's directory, acting as the account that controls it. Raises CannotDropRoot."""
    act_as_controller(own_command_line(), directory)
    return absolute(directory)


def as_ruler_of(directory: Path) -> None:
    """Become who controls a directory, or the place for it. Raises CannotDropRoot."""
    act_as_controller(own_command_line(), directory)


def new_directory(directory: Path) -> Path:
    """Create a node's directory, as the account in control. Raises CannotDropRoot, OSError."""
    act_as_controller(own_command_line(), directory)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return node_directory(directory)


def lab_to_make(name: str, base: Path | None) -> Lab:
    """Find a lab or a place for a new one, as whoever its nodes run as.

    Raises LabFailed, CannotDropRoot.
    """
    try:
        return existing_lab(name, base)
    except NoLab:
        folder = places.base_of_new(base, _account(), base or places.own_base())
        directory = folder.absolute() / name
        act_as_controller(own_command_line(), directory)
        places.check_directory(directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _without_root(Lab(directory), base)


def _without_root(lab: Lab, base: Path | None) -> Lab:
    if os.geteuid() == 0:
        _tell_folder(lab, base)
        act_as_controller(own_command_line(), lab.directory)
        places.check_directory(lab.directory)
        drop_root(own_command_line(), lab.directory)
    return lab


def _tell_folder(lab: Lab, base: Path | None) -> None:
    """Put the labs' folder in the environment: the account to go on as may have another home."""
    if base is None and os.geteuid() == 0:
        os.environ[places.VARIABLE] = str(lab.directory.parent)


def _account() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    match choose(0, account_works, namespace_works):
        case Account(name):
            account = pwd.getpwnam(name)
            return account.pw_uid, account.pw_gid
        case _:
            return None

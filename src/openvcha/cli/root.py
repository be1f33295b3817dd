"""Who a lab belongs to: never root. What changes a lab begins by giving up root."""

import os
import pwd
from pathlib import Path

from openvcha.lab import places
from openvcha.lab.errors import NoLab
from openvcha.lab.state import Lab
from openvcha.node.privileges import (
    Account,
    account_works,
    choose,
    give_up_root,
    namespace_works,
    own_command_line,
)


def existing_lab(name: str, base: Path | None) -> Lab:
    """Find a lab, as whoever its nodes run as. Raises NoLab, LabFailed, RootStays."""
    return _without_root(places.find(name, base), base)


def lab_to_make(name: str, base: Path | None) -> Lab:
    """Find a lab or a place for a new one, as whoever its nodes run as.

    Raises LabFailed, RootStays.
    """
    try:
        return existing_lab(name, base)
    except NoLab:
        folder = places.base_of_new(base, _account(), base or places.own_base())
        directory = folder.absolute() / name
        places.check_directory(directory)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _without_root(Lab(directory), base)


def _without_root(lab: Lab, base: Path | None) -> Lab:
    if os.geteuid() == 0:
        places.check_directory(lab.directory)
        if base is None:
            # Whom root is given up for may have another home: the folder is told.
            os.environ[places.VARIABLE] = str(lab.directory.parent)
        give_up_root(own_command_line(), owned=[lab.directory])
    return lab


def _account() -> tuple[int, int] | None:
    if os.geteuid() != 0:
        return None
    match choose(0, account_works, namespace_works):
        case Account(name):
            account = pwd.getpwnam(name)
            return account.pw_uid, account.pw_gid
        case _:
            return None

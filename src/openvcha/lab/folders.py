"""The folders and names of labs."""

import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from openvcha.client.errors import CommandError
from openvcha.lab.errors import LabNotFound
from openvcha.lab.state import Lab

VARIABLE = "OPENVCHA_LABS"
SHARED = Path("/var/lib/openvcha")
DEFAULT_NAME = "default"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


def user_base(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of this user's labs. Raises CommandError if there is no home directory."""
    state = Path(environment.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # the XDG specification: ignore a relative one
        return state / "openvcha"
    try:
        return Path.home() / ".local" / "state" / "openvcha"
    except RuntimeError as error:
        raise CommandError(f"there is no home directory ({error}); use --dir") from error


def base_for_new_lab(
    given: Path | None, account: tuple[int, int] | None, own: Path, shared: Path = SHARED
) -> Path:
    """Return the folder for a new lab; ``account`` (uid, gid) will own it instead of root.

    Raises CommandError if the account cannot reach the requested folder.
    """
    base = given or own
    if account is None or reachable(base, *account):
        return base
    if given is not None:
        raise CommandError(
            f"nodes do not run as root, and user {account[0]} cannot enter {given}; choose"
            f" another folder with --dir, for example {shared}"
        )
    return shared


def reachable(path: Path, uid: int, gid: int) -> bool:
    """Return whether an account may enter all existing folders of a path."""
    for folder in (path, *path.parents):
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        except OSError:
            return False
        if not _may_enter(found, uid, gid):
            return False
    return True


def _may_enter(found: os.stat_result, uid: int, gid: int) -> bool:
    if not stat.S_ISDIR(found.st_mode):
        return False
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def find(name: str, given: Path | None = None) -> Lab:
    """Return an existing lab. Raises LabNotFound, or CommandError for an invalid name."""
    check_name(name)
    bases = [given] if given else [user_base(), SHARED]
    for base in bases:
        if os.path.isfile(base / name / "lab.json"):  # noqa: PTH113 - Path's raises without permission
            return Lab(base / name)
    makes = shell_command(Lab(bases[0] / name), "lab up")
    raise LabNotFound(f"there is no lab {name!r} in {bases[0]}; {makes} creates one")


def lab_options(lab: Lab) -> str:
    """Return the options that select this lab, each preceded by a space."""
    name, base = lab.directory.name, lab.directory.parent
    named = f" --name {name}" if name != DEFAULT_NAME else ""
    return named + ("" if _usual(name, base) else f" --dir {shlex.quote(str(base))}")


def shell_command(lab: Lab, words: str) -> str:
    """Return one of our commands for this lab, in backticks."""
    return f"`vcha {words}{lab_options(lab)}`"


def _usual(name: str, base: Path) -> bool:
    """Return whether a lab in this folder is found without --dir."""
    if said := os.environ.get(VARIABLE):
        return Path(said).absolute() == base
    own = user_base()
    return base == own or (base == SHARED and not Lab(own / name).exists)


def labs(bases: Iterable[Path]) -> list[Lab]:
    """Return all labs in the folders, by name."""
    return [Lab(path.parent) for base in bases for path in sorted(base.glob("*/lab.json"))]


def check_name(name: str) -> None:
    """Raise CommandError for an invalid name of a lab."""
    if not _NAME.fullmatch(name):
        raise CommandError(
            f"{name!r} is not a valid lab name: use up to 32 lower-case letters, digits,"
            " '.', '_' or '-'"
        )


def check_directory(directory: Path) -> None:
    """Raise CommandError if a directory is not a lab's: a lab deletes everything in it."""
    if directory.is_symlink():
        raise CommandError(f"{directory} is a symbolic link; a lab needs a directory of its own")
    if not directory.exists():
        return
    if not directory.is_dir():
        raise CommandError(f"{directory} is not a directory")
    lab = Lab(directory)
    # A lab's first file, while another command writes it or after a crash.
    begun = f".{lab.passwords_file.name}.new"
    others = [path for path in directory.iterdir() if path.name != begun]
    if others and not (lab.exists or lab.passwords_file.exists()):
        raise CommandError(
            f"{directory} contains files that are not a lab's; choose another --name"
        )

"""Dropping root, for this process and its children.

PostgreSQL refuses to run as root, and no program here needs it. Another account may not be able to
read a Python below a private home directory; in a user namespace the files stay readable, because
outside it the process is still their owner.
"""

import dataclasses
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from openvcha.system.accounts.terminal import exec_detached, passed_on
from openvcha.system.files.path_owners import (
    CannotDropRoot,
    controlling_uid,
    hand_over,
    opened,
    require_unreplaced,
)

__all__ = ["CannotDropRoot"]

OWN_ACCOUNT = "openvcha"
COMMON_ACCOUNT = "nobody"
UNPRIVILEGED_ID = 65534
TRY_SECONDS = 30
PROOF = "import openvcha.node.supervisor.supervisor, patroni"


@dataclasses.dataclass(frozen=True)
class KeepAccount:
    """Continuing as the current account."""


@dataclasses.dataclass(frozen=True)
class SystemAccount:
    """Becoming a system account."""

    name: str


@dataclasses.dataclass(frozen=True)
class UserNamespace:
    """Becoming ``nobody`` inside a user namespace."""


DropMethod = KeepAccount | SystemAccount | UserNamespace


def choose(
    effective_uid: int, account_works: Callable[[str], bool], namespace_works: Callable[[], bool]
) -> DropMethod:
    """Choose how to drop root; test only as many ways as needed. Raises CannotDropRoot."""
    if effective_uid != 0:
        return KeepAccount()
    if account_works(OWN_ACCOUNT):
        return SystemAccount(OWN_ACCOUNT)
    if namespace_works():
        return UserNamespace()
    if account_works(COMMON_ACCOUNT):
        return SystemAccount(COMMON_ACCOUNT)
    raise CannotDropRoot(
        "cannot drop root privileges: user namespaces are not permitted and no account can read"
        f" {sys.executable}; install it where everyone can read it and add a system user"
        f" {OWN_ACCOUNT!r}"
    )


class DirectoryCheck(Protocol):
    """What root requires of a directory before it works there."""

    def __call__(self, directory: Path, /, *, changes_owner: bool) -> None:
        """Raise an error unless it is one of ours, and may change its owner if that is due."""
        ...


def drop_root(argv: Sequence[str], directory: Path, require: DirectoryCheck) -> None:
    """Restart this program without root; return only if it does not run as root.

    `argv` is the whole command line. The account becomes the owner of its working `directory`,
    after `require`; if another account already controls it, the program continues as that one.
    Raises CannotDropRoot, FileNotFoundError, and what `require` raises.
    """
    if os.geteuid() != 0:
        return
    act_as_controller(argv, directory)
    # Opened before the choice, which takes a second: meanwhile the path may lead elsewhere.
    with opened(directory) as descriptor:
        method = choose(0, account_works, namespace_works)
        require_unreplaced(descriptor, directory)
        require(directory, changes_owner=isinstance(method, SystemAccount))
        if isinstance(method, SystemAccount):
            account = pwd.getpwnam(method.name)
            hand_over(descriptor, directory, account.pw_uid, account.pw_gid)
    if isinstance(method, SystemAccount):
        account = pwd.getpwnam(method.name)
        become = partial(_become, account.pw_uid, account.pw_gid, account.pw_dir)
        exec_detached(argv, become)
    exec_detached([*unshare_command(), *argv], lambda: None)


def act_as_controller(argv: Sequence[str], path: Path, *, may_be_missing: bool = False) -> None:
    """Restart this program as the account that controls a path, unless we or root do.

    Then links of that account reach only what it can reach itself. Raises CannotDropRoot, and
    FileNotFoundError as ``controlling_uid`` does.
    """
    if os.geteuid() != 0 or (uid := controlling_uid(path, may_be_missing=may_be_missing)) == 0:
        return
    account = account_in_control(uid, path)
    if not _can_run(uid, account.pw_gid):
        raise CannotDropRoot(
            f"the account {account.pw_name} controls {path}, so root does not work there, and"
            f" {account.pw_name} cannot run {sys.executable}; install it where everyone can read it"
        )
    exec_detached(argv, partial(_become, uid, account.pw_gid, account.pw_dir))


def account_in_control(uid: int, path: Path) -> pwd.struct_passwd:
    """Return the account that controls a path. Raises CannotDropRoot if it has no name.

    Without a name it has no group of its own, and the groups of files are not its groups.
    """
    try:
        return pwd.getpwuid(uid)
    except KeyError as error:
        raise CannotDropRoot(
            f"the account {uid} that controls {path} has no entry in passwd, so root does not work"
            f" there: add the account, or change the owner of {path}"
        ) from error


def describe_root_drop() -> str:
    """Return a description of how root would be dropped, for the doctor. Raises CannotDropRoot."""
    match choose(os.geteuid(), account_works, namespace_works):
        case KeepAccount():
            return "not root: no privileges to drop"
        case SystemAccount(name):
            return f"root privileges are dropped: runs as the account {name!r}"
        case UserNamespace():
            return (
                "root privileges are dropped: runs in a user namespace (as nobody; files stay"
                " root's)"
            )


def own_command_line() -> list[str]:
    """Return the command line that restarts this program, independent of the current directory."""
    return [sys.executable, "-P", "-m", "openvcha", *sys.argv[1:]]


def account_works(name: str) -> bool:
    """Return whether an account exists and can read Python and all files that a node needs."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return False
    return _can_run(account.pw_uid, account.pw_gid)


def namespace_works() -> bool:
    """Return whether the kernel permits a user namespace in which a node can run."""
    return shutil.which("unshare") is not None and _succeeds(
        [*unshare_command(), sys.executable, "-c", "import openvcha"]
    )


def _can_run(uid: int, gid: int) -> bool:
    return _succeeds([sys.executable, "-c", PROOF], user=uid, group=gid, extra_groups=[])


def _succeeds(command: Sequence[str], **who: object) -> bool:
    try:
        result = subprocess.run(  # type: ignore[call-overload]  # who: user, group, extra_groups
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,  # no terminal of root's to type into
            timeout=TRY_SECONDS,
            check=False,
            cwd="/",
            env=passed_on(os.environ),
            **who,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(result.returncode == 0)


def unshare_command() -> list[str]:
    """Return the start of a command line whose rest runs as ``nobody`` in a user namespace."""
    program = shutil.which("unshare") or "unshare"
    return [
        program,
        "--user",
        f"--map-user={UNPRIVILEGED_ID}",
        f"--map-group={UNPRIVILEGED_ID}",
        "--",
    ]


def _become(uid: int, gid: int, home: str) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.environ["HOME"] = home

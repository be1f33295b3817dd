"""Giving up root, for this process and all that it starts.

PostgreSQL refuses root, and nothing here needs it. Another account may not be able to read a
Python below a closed home directory; inside a user namespace the files stay readable, because
outside of it the process is still their owner.
"""

import dataclasses
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

OWN_ACCOUNT = "openvcha"
COMMON_ACCOUNT = "nobody"
UNPRIVILEGED_ID = 65534
TRY_SECONDS = 30
PROOF = "import openvcha.node.supervisor, patroni"


class RootStays(Exception):  # noqa: N818 - reads as what is the matter
    """There is no way here to give up root; the text says what would help."""


@dataclasses.dataclass(frozen=True)
class Stay:
    """Go on as who we are."""


@dataclasses.dataclass(frozen=True)
class Account:
    """Become a system account."""

    name: str


@dataclasses.dataclass(frozen=True)
class UserNamespace:
    """Become nobody inside a user namespace."""


Way = Stay | Account | UserNamespace


def choose(
    effective_uid: int, account_works: Callable[[str], bool], namespace_works: Callable[[], bool]
) -> Way:
    """Decide how root is given up; what works is asked only as far as needed. Raises RootStays."""
    if effective_uid != 0:
        return Stay()
    if account_works(OWN_ACCOUNT):
        return Account(OWN_ACCOUNT)
    if namespace_works():
        return UserNamespace()
    if account_works(COMMON_ACCOUNT):
        return Account(COMMON_ACCOUNT)
    raise RootStays(
        "root cannot be given up: user namespaces are not permitted and no account can read "
        f"{sys.executable}; install it where all can read it and add a system user {OWN_ACCOUNT!r}"
    )


def give_up_root(argv: Sequence[str], owned: Sequence[Path] = ()) -> None:
    """Start this program anew without root; returns only when there is nothing to give up.

    `argv` is the whole command line; what is in `owned` is handed to the account. Raises RootStays.
    """
    match choose(os.geteuid(), account_works, namespace_works):
        case Stay():
            return
        case Account(name):
            _become(name, owned)
            os.execv(argv[0], list(argv))  # noqa: S606 - the same program again
        case UserNamespace():
            command = [*_unshare(), *argv]
            os.execv(command[0], command)  # noqa: S606 - the same program again


def how_root_is_given_up() -> str:
    """Say it in words, for the doctor. Raises RootStays."""
    match choose(os.geteuid(), account_works, namespace_works):
        case Stay():
            return "not root: nothing to give up"
        case Account(name):
            return f"root is given up for the account {name!r}"
        case UserNamespace():
            return "root is given up inside a user namespace (as nobody; files stay root's)"


def own_command_line() -> list[str]:
    """Give the command line that runs this very program again."""
    return [sys.executable, "-m", "openvcha", *sys.argv[1:]]


def account_works(name: str) -> bool:
    """Tell whether the account exists and can read Python and all that a node needs."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return False
    return _succeeds(
        [sys.executable, "-c", PROOF], user=account.pw_uid, group=account.pw_gid, extra_groups=[]
    )


def namespace_works() -> bool:
    """Tell whether the kernel lets us make a user namespace in which a node can be run."""
    return shutil.which("unshare") is not None and _succeeds(
        [*_unshare(), sys.executable, "-c", "import openvcha"]
    )


def _succeeds(command: Sequence[str], **who: object) -> bool:
    try:
        result = subprocess.run(  # type: ignore[call-overload]  # who: user, group, extra_groups
            command, capture_output=True, timeout=TRY_SECONDS, check=False, cwd="/", **who
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(result.returncode == 0)


def _unshare() -> list[str]:
    program = shutil.which("unshare") or "unshare"
    return [
        program,
        "--user",
        f"--map-user={UNPRIVILEGED_ID}",
        f"--map-group={UNPRIVILEGED_ID}",
        "--",
    ]


def _become(name: str, owned: Sequence[Path]) -> None:
    account = pwd.getpwnam(name)
    for root in owned:
        _hand_over(root, account.pw_uid, account.pw_gid)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ["HOME"] = account.pw_dir


def _hand_over(root: Path, uid: int, gid: int) -> None:
    for directory, _, names in os.walk(root):
        for path in (Path(directory), *(Path(directory, name) for name in names)):
            os.chown(path, uid, gid, follow_symlinks=False)

"""The steps of `vcha init`: questions, the account, the examination, making the node."""

import asyncio
import contextlib
import os
import pwd
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from openvcha.api.secret import Secret
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.users import new_user
from openvcha.cli.output import plain
from openvcha.cli.output.plain import say
from openvcha.cli.passwords import read_password
from openvcha.client.errors import CommandError
from openvcha.node.first_node import public_address
from openvcha.node.first_node.adoption.data import NoDataDirectory
from openvcha.node.first_node.adoption.programs import ProgramFailed
from openvcha.node.first_node.checks import Account, Examination, examine_machine
from openvcha.node.first_node.machine import Machine
from openvcha.node.first_node.making import PASSWORDS, Made, Request, make_first_node
from openvcha.node.first_node.network import completed, ha_proposal, proposals
from openvcha.node.layout import SERVICE_CA_CERTIFICATE
from openvcha.node.settings.table import SETTINGS, Values
from openvcha.system.accounts.privileges import (
    OWN_ACCOUNT,
    CannotDropRoot,
    KeepAccount,
    SystemAccount,
    UserNamespace,
    account_works,
    choose,
    namespace_works,
    unshare_command,
)
from openvcha.system.files.path_owners import acting_as, hand_over, make_directories, opened
from openvcha.system.network.host_port import url

STDIN, STDOUT = 0, 1
UNITS_RUN = Path("/var/lib/openvcha/nodes")
"""The folder whose nodes systemd runs (``openvcha-node@.service``)."""
APPLICATION_PASSWORD_BYTES = 15
ASKED = ("node.name", "node.directory", "network.ha_address", "network.public_address")


@dataclass(frozen=True)
class Result:
    """What `vcha init` has made, for the one who called it."""

    directory: Path
    administrator: str
    passwords_file: Path | None
    authority: Path
    api: str
    superusers: tuple[str, ...]
    findings: tuple[Any, ...]
    unit: str = ""

    def shown(self) -> dict[str, Any]:
        """Return it for a program."""
        return {
            "directory": str(self.directory),
            "administrator": self.administrator,
            "passwords_file": str(self.passwords_file) if self.passwords_file else None,
            "authority": str(self.authority),
            "api": self.api,
            "superusers": self.superusers,
            "findings": self.findings,
        }


def is_interactive() -> bool:
    """Return whether a person can answer questions: only on a terminal."""
    return os.isatty(STDIN) and os.isatty(STDOUT)


def ask_missing(values: Values, machine: Machine | None = None) -> dict[str, str]:
    """Ask for the settings that have no value yet; return the answers by key."""
    open_ones = [key for key in ASKED if not values[key]]
    if not open_ones:
        return {}
    found = proposals((machine or Machine()).addresses())
    for each in found:
        say(f"{each.interface:<15} {each.address}")
    answers = {}
    for key in open_ones:
        say(SETTINGS[key].text)
        own = key == "network.ha_address"
        answers[key] = plain.prompt(key, proposal=ha_proposal(found) if own else None)
    return answers


def administrator_password(file: Path | None, name: str) -> Secret | None:
    """Return the chosen password of the first user; None if one is to be generated."""
    if file is None and not is_interactive():
        return None
    return read_password(file, f"New password of {name}", new=True)


def account_for(values: Values) -> Account:
    """Return the account that the node will run as.

    Root is dropped to the chosen one, to the owner of adopted data, or as a node drops it by
    itself. Raises CommandError, CannotDropRoot.
    """
    wanted = str(values["node.user"])
    if os.geteuid() != 0:
        own = _name_of(os.geteuid())
        if wanted not in {"", own}:
            raise CommandError(f"node.user is {wanted}, but you are {own}: run this as root")
        return Account(os.geteuid(), own)
    if wanted:
        return _named(wanted)
    adopted = str(values["postgresql.adopt"])
    if adopted and (owner := _owner(Path(adopted))):
        return _named(_name_of(owner))
    match choose(0, account_works, namespace_works):
        case SystemAccount(name):
            return _named(name)
        case UserNamespace():
            return Account(0, "root", tuple(unshare_command()))
        case KeepAccount():
            raise CannotDropRoot("a node does not run as root")


def examined(values: Values, account: Account, *, loopback: bool) -> Examination:
    """Examine the machine as the node's account; change nothing. Raises OSError."""
    with acting(account):
        found = examine_machine(values, Machine(), account, loopback=loopback)
    helper = public_address.check(completed(values, Machine().addresses()), account.uid)
    return replace(found, findings=(*found.findings, *helper))


def make(
    values: Values,
    account: Account,
    found: Examination,
    administrator: str,
    password: Secret,
    *,
    generated: bool,
) -> Result:
    """Make the node. Raises CommandError, ApiError, CannotDropRoot, OSError."""
    user = asyncio.run(new_user(administrator, password, UserRole.ADMINISTRATOR))
    directory = Path(str(values["node.directory"]))
    whole = completed(values, Machine().addresses())
    request = Request(
        values=whole,
        account=account,
        administrator=msgspec.json.encode(user),
        passwords={user.name: password} if generated else {},
        application=Secret(secrets.token_urlsafe(APPLICATION_PASSWORD_BYTES)),
    )
    _make_directory(directory)
    public_address.write(whole, account.uid)
    try:
        made = make_first_node(
            request, found, hand_over=partial(_give, account), acting=partial(acting, account)
        )
    except (ProgramFailed, NoDataDirectory) as error:
        raise CommandError(f"{error}. Run the same command again to continue") from error
    return _result(whole, made, found, user.name, account)


@contextmanager
def acting(account: Account) -> Iterator[None]:
    """Act as the node's account, if we are root and it is another one."""
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0 and account.uid != 0:
            stack.enter_context(acting_as(account.uid, pwd.getpwuid(account.uid).pw_gid))
        yield


def _result(
    values: Values, made: Made, found: Examination, administrator: str, account: Account
) -> Result:
    passwords = made.directory / PASSWORDS
    return Result(
        directory=made.directory,
        administrator=administrator,
        passwords_file=passwords if passwords.exists() else None,
        authority=made.directory / SERVICE_CA_CERTIFICATE,
        api=url(str(values["network.public_address"]), int(values["ports.api"])),
        superusers=made.superusers,
        findings=found.findings,
        unit=_unit(made.directory, account),
    )


def _unit(directory: Path, account: Account) -> str:
    """Return the unit of systemd that runs the node; empty if there is none for it."""
    own = directory.parent == UNITS_RUN and account.name == OWN_ACCOUNT
    return f"openvcha-node@{directory.name}" if own else ""


def _make_directory(directory: Path) -> None:
    if os.geteuid() == 0:
        make_directories(directory)
    else:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)


def _give(account: Account, directory: Path) -> None:
    """Hand the directory over to the node's account, as root."""
    if os.geteuid() == 0 and account.uid != 0:
        with opened(directory) as descriptor:
            hand_over(descriptor, directory, account.uid, pwd.getpwuid(account.uid).pw_gid)


def _named(name: str) -> Account:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise CommandError(
            f"there is no account {name!r}: add it, or set node.user to another"
        ) from None
    if found.pw_uid == 0 or not account_works(name):
        raise CommandError(
            f"the account {name} cannot run {sys.executable}: install openvcha where everyone can"
            " read it, or set node.user to another"
        )
    return Account(found.pw_uid, name)


def _owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except OSError:
        return 0


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

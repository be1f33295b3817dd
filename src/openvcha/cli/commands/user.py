"""`vcha user`: the users of the API."""

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from openvcha.api.errors import ApiError
from openvcha.api.secret import Secret
from openvcha.api_server.auditing import local_entry
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.api_server.auth.users import User, Users
from openvcha.cli.accounts import node_directory, readable_lab
from openvcha.cli.exit_codes import EPILOG
from openvcha.cli.options import AsJson, Base, Name
from openvcha.cli.output.console import console, simple_table
from openvcha.cli.output.plain import say, say_json
from openvcha.cli.passwords import read_password
from openvcha.client.errors import CommandError
from openvcha.daemon.compose import open_services
from openvcha.events.audit import AuditLog
from openvcha.lab.access import data_nodes, is_on, lab_inventory
from openvcha.lab.folders import DEFAULT_NAME, lab_options, shell_command
from openvcha.store.mirror import FRESH_SECONDS
from openvcha.system.accounts.local_user import local_user

app = typer.Typer(
    help="Users of the API and their roles: Administrator, ReadOnly, NoAccess.",
    epilog=EPILOG,
    no_args_is_help=True,
)

Who = Annotated[str, typer.Argument(help="The user's name.")]
Node = Annotated[
    Path | None,
    typer.Option(
        "--node", exists=True, file_okay=False, help="A data node's directory, instead of a lab."
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        allow_dash=True,
        help="A file with the password, or - for standard input; default: a prompt.",
    ),
]
T = TypeVar("T")
Change = tuple[str, dict[str, Any]]
"""An operation and its arguments, for the audit; never a password."""
AsRole = Annotated[UserRole, typer.Option("--role", help="The user's role.")]


@app.command(epilog=EPILOG)
def add(
    user: Who,
    role: AsRole = UserRole.READ_ONLY,
    *,
    password_file: PasswordFile = None,
    name: Name = DEFAULT_NAME,
    base: Base = None,
    node: Node = None,
) -> None:
    """Add a user."""
    _become_owner(name, base, node)
    password = read_password(password_file, f"Password for {user}", new=True)
    audited = {"user": user, "role": role}
    _with_users(name, base, node, lambda users: users.add(user, password, role), ("add", audited))
    kept = _save_in_lab(name, base, node, user, password)
    say(f"added {user}: {role.value}{kept}")


@app.command(epilog=EPILOG)
def remove(user: Who, name: Name = DEFAULT_NAME, base: Base = None, node: Node = None) -> None:
    """Remove a user and end that user's sessions."""
    done = ("remove", {"user": user})
    _with_users(name, base, node, lambda users: users.remove(user), done)
    say(f"removed {user}")


@app.command("list", epilog=EPILOG)
def list_(
    name: Name = DEFAULT_NAME, base: Base = None, node: Node = None, as_json: AsJson = False
) -> None:
    """List the users with their roles and privileges."""
    found: list[User] = _with_users(name, base, node, lambda users: users.list())
    if as_json:
        shown = [
            {"name": u.name, "role": u.role, "privileges": sorted(u.privileges)} for u in found
        ]
        say_json(shown)
        return
    table = simple_table("user", "role", "privileges")
    for one in found:
        table.add_row(one.name, one.role.value, ", ".join(sorted(one.privileges)) or "-")
    console().print(table)


@app.command(epilog=EPILOG)
def passwd(
    user: Who,
    *,
    password_file: PasswordFile = None,
    name: Name = DEFAULT_NAME,
    base: Base = None,
    node: Node = None,
) -> None:
    """Change a user's password and end that user's sessions."""
    _become_owner(name, base, node)
    password = read_password(password_file, f"New password for {user}", new=True)
    done = ("passwd", {"user": user})
    _with_users(name, base, node, lambda users: users.passwd(user, password), done)
    kept = _save_in_lab(name, base, node, user, password)
    say(f"changed the password of {user}{kept}")


@app.command(epilog=EPILOG)
def role(
    user: Who,
    role: Annotated[UserRole, typer.Argument(help="The user's role.")],
    name: Name = DEFAULT_NAME,
    base: Base = None,
    node: Node = None,
) -> None:
    """Change a user's role, also for sessions in progress."""
    done = ("role", {"user": user, "role": role})
    _with_users(name, base, node, lambda users: users.set_role(user, role), done)
    say(f"{user} is now {role.value}")


def _become_owner(name: str, base: Path | None, node: Path | None) -> None:
    """Become the account in control before reading standard input."""
    if node:
        node_directory(node)
    else:
        readable_lab(name, base)


def _with_users(
    name: str,
    base: Path | None,
    node: Path | None,
    work: Callable[[Users], Awaitable[T]],
    change: Change | None = None,
) -> T:
    """Run ``work`` with the users of a lab, or of a node's cluster; audit a change."""

    async def connected() -> T:
        directory = node_directory(node) if node else await _running_node(name, base)
        async with open_services(directory) as services:
            users = work(Users(services.store))
            if change is None:
                return await users
            done = await _audited(AuditLog(services.store), change, users)
            # Only now is the serving API certain to know of it.
            await asyncio.sleep(FRESH_SECONDS)
            return done

    try:
        return asyncio.run(connected())
    except ApiError as error:
        # Suggested commands are for the same lab or node.
        where = (
            f" --node {shlex.quote(str(node))}" if node else lab_options(readable_lab(name, base))
        )
        advice = re.sub("`(vcha user [^`]*)`", lambda found: f"`{found[1]}{where}`", str(error))
        raise CommandError(advice) from error


def _save_in_lab(
    name: str, base: Path | None, node: Path | None, user: str, password: Secret
) -> str:
    """Save the new password in the lab if the user is one of the lab's own."""
    kept = node is None and readable_lab(name, base).update_password(user, password)
    return "; the lab keeps the password too" if kept else ""


async def _audited(audit: AuditLog, change: Change, work: Awaitable[T]) -> T:
    """Audit a change, as made by the local user."""
    error: ApiError | None = None
    try:
        return await work
    except ApiError as refused:
        error = refused
        raise
    finally:
        what, arguments = change
        entry = local_entry(
            operation=f"user.{what}", user=local_user(), arguments=arguments, error=error
        )
        await audit.record(entry, access=False)


async def _running_node(name: str, base: Path | None) -> Path:
    lab = readable_lab(name, base)
    for vm, _ in data_nodes(await lab_inventory(lab)):
        if is_on(vm):
            return Path(vm.directory)
    raise CommandError(f"no data node is running: {shell_command(lab, 'lab up')} starts the lab")

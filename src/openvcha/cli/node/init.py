"""`vcha init`: the first node of a cluster, on this machine."""

import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openvcha.api.secret import Secret
from openvcha.cli.accounts import act_as_owner
from openvcha.cli.exit_codes import Code
from openvcha.cli.node.config import Config, read, refuse
from openvcha.cli.options import AsJson, program
from openvcha.cli.output.plain import say, say_json
from openvcha.client.errors import CommandError
from openvcha.node.first_node.findings import Finding, Verdict
from openvcha.node.settings.reading import DEFAULT_FILE
from openvcha.node.settings.table import Values

if TYPE_CHECKING:
    from openvcha.cli.node.init_steps import Result

ADMINISTRATOR = "administrator@vsphere.local"
PASSWORD_BYTES = 15

Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, as SECTION.NAME=VALUE; repeatable."),
]
Directory = Annotated[str | None, typer.Option(help="node.directory: the new node's directory.")]
User = Annotated[str | None, typer.Option(help="node.user: the account that the node runs as.")]
HaAddress = Annotated[
    str | None,
    typer.Option(help="network.ha_address: the node's own address, for the other nodes."),
]
PublicAddress = Annotated[
    str | None, typer.Option(help="network.public_address: where clients reach the active node.")
]
Adopt = Annotated[
    str | None,
    typer.Option(help="postgresql.adopt: an existing data directory; its server must be stopped."),
]
Copy = Annotated[
    bool, typer.Option("--copy", help="postgresql.adopt_by=copy: copy it, and keep the original.")
]
SettingsFile = Annotated[
    str | None,
    typer.Option(help="postgresql.settings_file: where the postgresql.conf of the data is."),
]
Administrator = Annotated[str, typer.Option(help="The first user of the API.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        allow_dash=True,
        help="A file with that user's password, or - for standard input. Default: a prompt at a"
        " terminal, otherwise a generated password.",
    ),
]
Loopback = Annotated[
    bool, typer.Option("--loopback", help="Accept loopback addresses, for a trial.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, but change nothing.")]


def init(
    *,
    config: Config = None,
    settings: Set = None,
    directory: Directory = None,
    user: User = None,
    ha_address: HaAddress = None,
    public_address: PublicAddress = None,
    adopt: Adopt = None,
    copy: Copy = False,
    settings_file: SettingsFile = None,
    administrator: Administrator = ADMINISTRATOR,
    password_file: PasswordFile = None,
    loopback: Loopback = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Create the first node of a cluster on this machine; `vcha node run` then runs it.

    All checks come first; if one refuses, nothing is changed. After a crash, repeat the command to
    continue. At a terminal, it asks for missing settings.
    """
    given = {
        "node.directory": directory,
        "node.user": user,
        "network.ha_address": ha_address,
        "network.public_address": public_address,
        "postgresql.adopt": adopt,
        "postgresql.adopt_by": "copy" if copy else None,
        "postgresql.settings_file": settings_file,
    }
    chosen = _chosen(settings or (), given)
    values = _values(config, chosen)
    act_as_owner(Path(str(values["node.directory"])))
    # Imported here: a refusal needs neither certificates nor passwords.
    from openvcha.cli.node import init_steps as steps  # noqa: PLC0415

    if steps.is_interactive():
        values = _values(config, chosen | steps.ask_missing(values))
    account = steps.account_for(values)
    found = steps.examined(values, account, loopback=loopback)
    if found.refused or dry_run:
        _report(found.findings, dry_run=dry_run, as_json=as_json)
        raise typer.Exit(Code.FAILED if found.refused else Code.OK)
    if not as_json:
        _show(found.findings)
    password = steps.administrator_password(password_file, administrator)
    generated = password is None
    made = steps.make(
        values,
        account,
        found,
        administrator,
        password or Secret(secrets.token_urlsafe(PASSWORD_BYTES)),
        generated=generated,
    )
    _tell(values, made, as_json=as_json)


def _chosen(settings: Sequence[str], given: Mapping[str, str | None]) -> dict[str, str]:
    """Return the settings of the command line by key. Raises CommandError for a malformed one."""
    chosen = {}
    for each in settings:
        key, equals, value = each.partition("=")
        if not equals:
            raise CommandError(f"--set {each!r}: write SECTION.NAME=VALUE")
        chosen[key.strip()] = value.strip()
    return chosen | {key: value for key, value in given.items() if value is not None}


def _values(config: Path | None, chosen: Mapping[str, str]) -> Values:
    found = read(config or DEFAULT_FILE, given=config is not None, over=chosen)
    refuse(found)
    return found.values


def _report(findings: Sequence[Finding], *, dry_run: bool, as_json: bool) -> None:
    refused = any(each.verdict is Verdict.REFUSED for each in findings)
    if as_json:
        say_json({"made": False, "refused": refused, "findings": findings}, indent=2)
        return
    _show(findings)
    if refused:
        say("vcha: nothing was changed", err=True)
    elif dry_run:
        say("nothing was changed; without --dry-run, the node would be created")


def _show(findings: Sequence[Finding]) -> None:
    for each in findings:
        say(
            f"{each.verdict:<8} {each.subject:<11} {each.text}",
            err=each.verdict is Verdict.REFUSED,
        )


def _run_command(made: "Result") -> str:
    """Return how to run the node: as a unit where systemd runs and has one for it."""
    if made.unit and Path("/run/systemd/system").is_dir():
        return f"systemctl enable --now {shlex.quote(made.unit)}"
    return f"{program()} node run {shlex.quote(str(made.directory))}"


def _tell(values: Values, made: "Result", *, as_json: bool) -> None:
    if as_json:
        say_json({"made": True, "refused": False, **made.shown()}, indent=2)
        return
    where = shlex.quote(str(made.directory))
    say(f"{values['node.name']} was created in {made.directory}")
    if made.passwords_file:
        say(f"passwords  {made.passwords_file} (delete it once you have stored them)")
    for name in made.superusers:
        say(f"superuser  {name}: unchanged")
    say(f"run it     {_run_command(made)}")
    say(f"then       {program()} node status {where}")
    user = shlex.quote(made.administrator)
    target = f"--server {made.api} --ca {shlex.quote(str(made.authority))} --user {user}"
    say(f"           {program()} call active.get {target} --param partial=true")
    say("deploy     two more nodes: docs/hosts.md, or by hand docs/manual.md")

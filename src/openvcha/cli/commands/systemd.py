"""`vcha systemd`: nodes as units of systemd."""

import ipaddress
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from openvcha.cli.exit_codes import EPILOG
from openvcha.cli.options import AsJson
from openvcha.cli.output.plain import say, say_json
from openvcha.client.errors import CommandError
from openvcha.node.address.interface import installed
from openvcha.node.address.interface.helper_config import HelperConfig, encode_config
from openvcha.node.public_interface import ADDRESS_LIFETIME, helper_socket
from openvcha.node.service_manager import unit_files

ACCOUNT = "openvcha"

app = typer.Typer(help="Run nodes as systemd units.", epilog=EPILOG, no_args_is_help=True)

Root = Annotated[
    Path,
    typer.Option(help="The root directory of the system that gets the files.", file_okay=False),
]
Program = Annotated[
    Path | None, typer.Option(help="The vcha program that the units run; default: this one.")
]
Ssh = Annotated[
    bool,
    typer.Option(
        "--ssh", help="Also let data nodes manage nodes here by SSH (configures sudo and sshd)."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


@app.command(epilog=EPILOG)
def install(
    *,
    root: Root = Path("/"),
    program: Program = None,
    ssh: Ssh = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Install the unit files, the account openvcha and its directories.

    Then `systemctl enable --now openvcha-node@NAME` runs the node in /var/lib/openvcha/nodes/NAME.
    """
    chosen = program or Path(sys.prefix, "bin", "vcha")
    try:
        files = list(unit_files.installed_files(chosen, ssh=ssh))
    except unit_files.UnusablePath as error:
        raise CommandError(str(error)) from error
    here = root.resolve() == Path("/")
    after = unit_files.commands_after(ssh=ssh, systemd_runs=unit_files.RUNS.is_dir())
    if not dry_run and here and os.geteuid() != 0:
        raise CommandError("only root can install system files: run this with sudo")
    done = [_install(root, file, dry_run=dry_run, quiet=as_json) for file in files]
    for command in after if here else ():
        _carry_out(command, dry_run=dry_run, quiet=as_json)
    if as_json:
        say_json({"files": done, "commands": [shlex.join(each) for each in after if here]})


@app.command(epilog=EPILOG)
def address(
    address: Annotated[str, typer.Argument(help="The public address of the cluster.")],
    interface: Annotated[str, typer.Argument(help="The interface that gets the address.")],
    *,
    prefix: Annotated[int | None, typer.Option(help="The length of the address's prefix.")] = None,
    lifetime: Annotated[
        int, typer.Option(help="Seconds after which the kernel removes it unless it is refreshed.")
    ] = ADDRESS_LIFETIME,
    root: Root = Path("/"),
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let nodes of the account openvcha hold a public address on an interface of this machine.

    Its helper serves whichever node leads here, and starts with the machine.
    """
    here = root.resolve() == Path("/")
    if not dry_run and here and os.geteuid() != 0:
        raise CommandError("only root may permit an address: run this with sudo")
    config = _helper_config(address, interface, prefix, lifetime)
    try:
        file = installed.address_file(root, config)
    except installed.AnotherHelper as error:
        raise CommandError(str(error)) from error
    done = _install(root, file, dry_run=dry_run, quiet=as_json)
    runs = here and unit_files.RUNS.is_dir()
    outcome = unit_files.Outcome.WRITTEN if dry_run else unit_files.Outcome(done["outcome"])
    after = installed.address_commands(config.address, outcome) if runs else ()
    for command in after:
        _carry_out(command, dry_run=dry_run, quiet=as_json)
    if as_json:
        say_json({"files": [done], "commands": [shlex.join(each) for each in after]})
    elif not runs:
        say(f"its helper, without systemd: vcha node address {root / file.path}")


def _helper_config(address: str, interface: str, prefix: int | None, lifetime: int) -> HelperConfig:
    """Return the configuration of an address. Raises CommandError for an unusable one."""
    try:
        plain = str(ipaddress.ip_address(address))
        socket = helper_socket(plain)
        config = HelperConfig(
            interface=interface,
            address=plain,
            prefix=prefix,
            lifetime=lifetime,
            user=ACCOUNT,
            socket=socket,
        )
        config.held_address()
        return msgspec.json.decode(encode_config(config), type=HelperConfig)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _install(
    root: Path, file: unit_files.InstalledFile, *, dry_run: bool, quiet: bool
) -> dict[str, str]:
    path = str(root / file.path)
    outcome = "to write" if dry_run else str(unit_files.install(root, file))
    if not quiet:
        say(f"{outcome}: {path}")
        for line in file.content.decode().splitlines() if dry_run else ():
            say(f"    {line}")
    return {"path": path, "outcome": outcome}


def _carry_out(command: tuple[str, ...], *, dry_run: bool, quiet: bool) -> None:
    """Show a command and run it, unless it is a dry run. Raises CommandError."""
    if not quiet:
        say(f"{'to run' if dry_run else 'run'}: {shlex.join(command)}")
    if dry_run:
        return
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{shlex.join(command)} could not be run: {error}") from error
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split())[-500:]
        raise CommandError(f"{shlex.join(command)} failed: {words}")

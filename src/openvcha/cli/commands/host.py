"""`vcha host prepare`: whether a machine is ready to run nodes, and making it so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from openvcha.cli.exit_codes import EPILOG, Code
from openvcha.cli.options import AsJson, program
from openvcha.cli.output.plain import say, say_json
from openvcha.client.errors import CommandError
from openvcha.infrastructure.hosts import checks, installation
from openvcha.infrastructure.hosts.address import UnusableAddress, parse_address
from openvcha.infrastructure.hosts.checks import Finding, Verdict, Wanted
from openvcha.infrastructure.hosts.commands import HostUnreachable, Runner
from openvcha.infrastructure.hosts.local_runner import run_here
from openvcha.infrastructure.hosts.survey import Survey, look

app = typer.Typer(help="Prepare a machine to run nodes.", epilog=EPILOG, no_args_is_help=True)

Where = Annotated[
    str | None, typer.Argument(metavar="[HOST]", help="[USER@]HOST[:PORT]; default: this machine.")
]
Key = Annotated[
    Path | None,
    typer.Option(
        help="The private key to log in with; default: those that `ssh` uses.", dir_okay=False
    ),
]
AcceptKey = Annotated[
    str | None, typer.Option(help="Accept only the host key with this fingerprint (SHA256:…).")
]
KnownHosts = Annotated[
    Path | None, typer.Option(help="The file of known hosts; default: ~/.ssh/known_hosts.")
]
Sudo = Annotated[bool, typer.Option("--sudo", help="Run the commands there with `sudo -n`.")]
Datastore = Annotated[str, typer.Option(help="The directory in which nodes will be created.")]
OldEtcd = Annotated[
    bool,
    typer.Option(
        "--accept-old-etcd",
        help="Accept an etcd older than 3.5.3; the cluster must too (etcd.accept_old).",
    ),
]
Install = Annotated[bool, typer.Option("--install", help="Install what is missing (Debian).")]
Wheelhouse = Annotated[
    Path | None,
    typer.Option(
        help="The directory that `./dev wheelhouse` made, for --install.", file_okay=False
    ),
]


@app.callback()
def host() -> None:
    """Do nothing: otherwise typer would leave out the name of the only command."""


@dataclass(frozen=True)
class Way:
    """How a host is reached."""

    host: str | None
    key: Path | None
    accept_key: str | None
    known_hosts: Path
    sudo: bool


@app.command(epilog=EPILOG)
def prepare(
    host: Where = None,
    *,
    key: Key = None,
    accept_key: AcceptKey = None,
    known_hosts: KnownHosts = None,
    sudo: Sudo = False,
    datastore: Datastore = checks.DATASTORE,
    accept_old_etcd: OldEtcd = False,
    install: Install = False,
    wheelhouse: Wheelhouse = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a machine is ready to run nodes, and show the commands that make it so.

    Nothing is changed without --install. The exit code is 1 if something is missing.
    """
    known = known_hosts or Path.home() / ".ssh" / "known_hosts"
    way = Way(host, key, accept_key, known, sudo)
    wanted = Wanted(datastore=datastore, old_etcd=accept_old_etcd)
    show = partial(say, err=as_json)
    try:
        findings = asyncio.run(_prepare(way, wanted, install, wheelhouse, show))
    except (HostUnreachable, UnusableAddress, installation.InstallationFailed) as error:
        raise CommandError(str(error)) from error
    ready = checks.is_ready(findings)
    if as_json:
        typed = checks.commands(findings)
        say_json({"host": host, "ready": ready, "findings": findings, "commands": typed})
    else:
        _show(findings, host, installed=install)
    if not ready:
        raise typer.Exit(Code.FAILED)


async def _prepare(
    way: Way, wanted: Wanted, install: bool, wheelhouse: Path | None, show: installation.Show
) -> list[Finding]:
    async with _reached(way) as run:
        survey = await look(run, [wanted.datastore], root=way.sudo)
        findings = checks.check(survey, wanted)
        if not install or not checks.commands(findings):
            return findings
        _require_installable(survey, wheelhouse)
        if wheelhouse and not survey.openvcha:
            await installation.copy_wheels(run, wheelhouse, root=way.sudo, show=show)
        typed = checks.commands(findings)
        await installation.carry_out(run, typed, root=way.sudo, show=show)
        return checks.check(await look(run, [wanted.datastore], root=way.sudo), wanted)


def _require_installable(survey: Survey, wheelhouse: Path | None) -> None:
    if survey.uid != 0:
        raise CommandError("only root can install there: log in as root, or use --sudo")
    if not survey.system.startswith(("debian", "ubuntu")):
        raise CommandError(
            f"--install supports only Debian and Ubuntu, not {survey.system or 'this system'}"
        )
    if not survey.openvcha and wheelhouse is None:
        raise CommandError(
            "openvcha is missing there: use --wheelhouse (`./dev wheelhouse` makes one)"
        )


@asynccontextmanager
async def _reached(way: Way) -> AsyncIterator[Runner]:
    """Yield how commands are run on the host. Raises CommandError, HostUnreachable."""
    if way.host is None:
        yield run_here
        return
    # asyncssh is large, and only some commands need it.
    from openvcha.cli.host_trust import trusted_host  # noqa: PLC0415
    from openvcha.infrastructure.hosts.ssh import Login, Ssh, UnusableKey  # noqa: PLC0415

    address = parse_address(way.host, "root")
    try:
        trusted = await trusted_host(address, way.accept_key, way.known_hosts)
        async with Ssh(Login((way.key,) if way.key else None)) as ssh:
            yield partial(ssh.run, trusted)
    except UnusableKey as error:
        raise CommandError(str(error)) from error


def _show(findings: list[Finding], host: str | None, *, installed: bool) -> None:
    for finding in findings:
        say(f"{finding.verdict:<8} {finding.subject:<11} {finding.text}")
    typed = checks.commands(findings)
    if typed:
        say()
        say(f"Run on {host or 'this machine'}, as root:")
        for command in typed:
            say(f"  {command}")
        if not installed:
            words = f"host prepare {host} --install" if host else "host prepare --install"
            say(f"Or have it done: {program()} {words} --wheelhouse wheelhouse")
    if any(finding.verdict is Verdict.MISSING and not finding.commands for finding in findings):
        say("Whatever has no command above needs your decision.")

"""The summary of a lab, printed once it is up."""

import shlex

from rich.console import Console
from rich.text import Text

from openvcha.cli.lab.show import REPAIRS, Command, colored, print_warnings
from openvcha.cli.output.console import console
from openvcha.client import trust
from openvcha.lab.access import connection_string, database
from openvcha.lab.state import ADMINISTRATOR, READER, Lab
from openvcha.lab.status import LabStatus, Overall, status
from openvcha.node.identity import Ports
from openvcha.node.postgres.own_names import APPLICATION_DATABASE, APPLICATION_USER
from openvcha.system.thumbprints import thumbprint_sha1, thumbprint_sha256

LABEL_WIDTH = 13
DEMO = ("demo", "destroy the passive, redeploy it through the API, and check that no row is lost")
STATUS = ("lab status", "the nodes, their health and what is running")


async def summary(lab: Lab, seconds: float, command: Command) -> None:
    """Print addresses, users, files, thumbprints and suggested commands."""
    out = console()
    found = await status(lab)
    state = lab.state()
    out.print()
    out.print(
        Text.assemble(f"Lab {state.name} is ", colored(found.state.value), f" ({seconds:.1f} s)")
    )
    print_warnings(out, found)
    out.print()
    for node in found.nodes:
        where = f"{node.ha_address} on {node.host}" if node.host else "destroyed"
        _fact(out, (node.role or "node").capitalize(), f"{node.name}, {where}")
    _fact(out, "API", state.api)
    _fact(out, "Users", f"{ADMINISTRATOR} (all), {READER} (read only)")
    _fact(out, "PostgreSQL", f"role {APPLICATION_USER}, database {APPLICATION_DATABASE}")
    _fact(out, "Passwords", f"{lab.passwords_file} (only you can read it)")
    _fact(out, "Authority", str(lab.ca))
    _fact(out, "psql", f"psql {shlex.quote(connection_string(await database(lab)))}")
    _fact(out, "Shell", f'eval "$({command("lab env")})" sets $API, $CA, $PASSWORD, $PGHOST …')
    await _thumbprints(out, state.public_address)
    _next(out, found, command)


def _fact(out: Console, label: str, value: str) -> None:
    out.print(Text.assemble((f"  {label:<{LABEL_WIDTH}}", "bold"), value), soft_wrap=True)


async def _thumbprints(out: Console, address: str) -> None:
    met = await trust.fetch_certificate(address, Ports().api)
    out.print()
    out.print("The thumbprints of the API's certificate (SHA-1 and SHA-256)")
    for thumbprint in (thumbprint_sha1(met), thumbprint_sha256(met)):
        out.print(f"  {thumbprint}", soft_wrap=True)


def _next(out: Console, found: LabStatus, command: Command) -> None:
    chosen = _suggestions(found)
    width = max(len(command(words)) for words, _ in chosen)
    out.print()
    out.print("Try next")
    for words, meaning in chosen:
        line = Text.assemble("  ", (f"{command(words):<{width}}", "cyan"), f"   {meaning}")
        out.print(line, soft_wrap=True)


def _suggestions(found: LabStatus) -> tuple[tuple[str, str], ...]:
    """Return three suggested commands."""
    if found.state is Overall.HEALTHY:
        return (
            DEMO,
            STATUS,
            ("lab destroy passive", "lose the passive yourself and watch what happens"),
        )
    gone = [(node.role or "").lower() for node in found.nodes if node.vm is None]
    repairs = [REPAIRS[role] for role in gone if role in REPAIRS]
    return (*repairs, STATUS, ("lab logs active", "the logs of the active node"))[:3]

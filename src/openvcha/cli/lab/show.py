"""Output of the status of a lab."""

from collections.abc import Callable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openvcha.api.prepared import prepare
from openvcha.cli.output.console import console, simple_table
from openvcha.lab.access import is_on, lab_inventory
from openvcha.lab.state import Lab
from openvcha.lab.status import AddressHolders, LabNodeStatus, LabStatus, Overall

Command = Callable[[str], str]
_STYLES = {
    "HEALTHY": "green",
    "UP": "green",
    "DEGRADED": "yellow",
    "SINGLE": "yellow",
    "INVALID": "yellow",
    "DOWN": "red",
    "ISOLATED": "red",
    "UNKNOWN": "red",
}
_MEANINGS = {
    Overall.SINGLE: "one node; the other two are not deployed",
    Overall.INVALID: "one node; a deployment failed and left a VM behind",
    Overall.UNKNOWN: "nodes are running, but the API does not respond",
    Overall.DOWN: "no node is running",
}
_COLUMNS = ("node", "role", "state", "power", "host", "datastore", "HA address", "VM")
REPAIRS = {
    "passive": ("passive redeploy", "replaces the passive with a new one"),
    "witness": ("witness redeploy", "replaces the witness with a new one"),
}


class LabRow(msgspec.Struct, frozen=True, kw_only=True):
    """One lab in the list of labs; if it cannot be read, `error` says why."""

    name: str
    running: int = 0
    nodes: int = 0
    api: str = ""
    directory: str
    error: str | None = None


async def row(lab: Lab) -> LabRow:
    """Return a lab's row: what runs, and where, without calling its API."""
    vms = (await lab_inventory(lab)).vms
    state = lab.state()
    return LabRow(
        name=lab.directory.name,
        running=sum(map(is_on, vms)),
        nodes=len(vms),
        api=state.api,
        directory=str(lab.directory),
    )


def broken_row(lab: Lab, reason: str) -> LabRow:
    """Return the row of a lab that cannot be read."""
    return LabRow(name=lab.directory.name, directory=str(lab.directory), error=reason)


def lab_table(found: Sequence[LabRow]) -> Table:
    """Return the table of labs."""
    table = simple_table("lab", "nodes", "API", "directory")
    for row in found:
        runs = f"{row.running} of {row.nodes} running" if row.running else "down"
        known = (runs, row.api) if row.error is None else ("unknown", row.error)
        table.add_row(row.name, *known, row.directory)
    return table


def show_status(found: LabStatus, command: Command) -> None:
    """Print a lab's status."""
    out = console()
    meaning = _MEANINGS.get(found.state)
    detail = f", mode {found.mode}" if found.mode else f": {meaning}" if meaning else ""
    out.print(Text.assemble(f"Lab {found.name} is ", colored(found.state.value), detail))
    if found.api_problem:
        out.print(f"  {found.api_problem}", soft_wrap=True)
    print_warnings(out, found)
    if found.nodes:
        out.print()
        out.print(_node_table(found.nodes))
    if found.public_address and found.state is not Overall.DOWN:
        _print_holders(out, found.public_address)
    _print_task(out, found)
    if found.state is Overall.DOWN:
        out.print()
        out.print(f"{command('lab up')}   starts it", soft_wrap=True)
    if found.state is Overall.INVALID:
        out.print()
        out.print(f"{command('lab up')}   deploys again", soft_wrap=True)
        for name in (node.name for node in found.nodes if node.role != "ACTIVE"):
            out.print(f"{command(f'lab destroy {name}')}   deletes what is left", soft_wrap=True)


def print_warnings(out: Console, found: LabStatus) -> None:
    """Print the problems, and what to do about them."""
    for warning in found.warnings:
        out.print(Text.assemble(("  ! ", "yellow"), warning.error), soft_wrap=True)
        if warning.recommendation:
            out.print(f"    {warning.recommendation}", soft_wrap=True)


def _node_table(nodes: Sequence[LabNodeStatus]) -> Table:
    table = simple_table(*_COLUMNS)
    for node in nodes:
        values = (node.host, node.datastore, node.ha_address, node.vm)
        table.add_row(
            node.name,
            (node.role or "-").lower(),
            Text(*colored(node.state or "-")),
            node.power or "-",
            *(value or "-" for value in values),
        )
    return table


def _print_holders(out: Console, held: AddressHolders) -> None:
    out.print()
    database, api = held.database or "nobody", held.api or "nobody"
    out.print(f"{held.address}: database held by {database}, API by {api}", soft_wrap=True)


def _print_task(out: Console, found: LabStatus) -> None:
    task = found.task
    if task is None:
        return
    percent = 100 * task.completed // (task.total or 1)
    out.print()
    out.print(f"Running: {task.operation}, {percent} %, {task.message}", soft_wrap=True)
    out.print(f"  task {task.id}", soft_wrap=True)


def colored(word: str) -> tuple[str, str]:
    """Return a state and its color."""
    return word, _STYLES.get(word, "")


prepare(__name__)

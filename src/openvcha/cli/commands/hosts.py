"""`vcha hosts`: the Linux machines on which the cluster can create nodes."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from openvcha.cli.accounts import node_directory
from openvcha.cli.exit_codes import EPILOG
from openvcha.cli.options import AsJson
from openvcha.cli.output.plain import say, say_json
from openvcha.cli.target import Target, with_target
from openvcha.client.errors import CommandError
from openvcha.infrastructure.hosts.address import HostAddress, UnusableAddress, parse_address
from openvcha.infrastructure.hosts.commands import HostUnreachable
from openvcha.node.identity import load_identity
from openvcha.node.layout import Layout

app = typer.Typer(
    help="The Linux machines on which the cluster can create nodes.",
    epilog=EPILOG,
    no_args_is_help=True,
)

PATH = "/openvcha/hosts"
DEFAULT_USER = "openvcha"

HostName = Annotated[str, typer.Argument(help="The host's name or identifier (vcha hosts list).")]
Where = Annotated[str, typer.Argument(help="[USER@]ADDRESS[:PORT], where the data nodes reach it.")]
Datastores = Annotated[
    list[str], typer.Option("--datastore", help="A directory of the host for nodes; repeatable.")
]
Networks = Annotated[
    list[str],
    typer.Option(
        "--network", metavar="INTERFACE=SUBNET", help="For example eth1=192.0.2.0/24; repeatable."
    ),
]
AcceptKey = Annotated[
    str | None, typer.Option(help="Accept only the host key with this fingerprint (SHA256:…).")
]
KnownHosts = Annotated[
    Path | None, typer.Option(help="The file of known hosts; default: ~/.ssh/known_hosts.")
]


@app.command("list", epilog=EPILOG)
@with_target
def list_(*, as_json: AsJson = False, target: Target) -> None:
    """List the hosts, with their addresses, datastores and networks."""

    async def work() -> list[dict[str, Any]]:
        async with target.api() as api:
            found: list[dict[str, Any]] = await api.call("GET", PATH)
            return found

    found = asyncio.run(work())
    if as_json:
        say_json(found)
        return
    if not found:
        say("there are no hosts", err=True)
    for host in found:
        state = "in maintenance" if host["maintenance"] else host["connection_state"]
        address = HostAddress(host["user"], host["address"], host["port"])
        say(f"{host['host']}  {host['name']}  {address}  {state}  {host['fingerprint']}")
        for one in host["datastores"]:
            say(f"  {one['datastore']}  {one['path']}")
        for one in host["networks"]:
            say(f"  {one['network']}  {one['subnet']} on {one['interface']}")


@app.command(epilog=EPILOG)
@with_target
def add(
    host: Annotated[str, typer.Argument(help="The host's name.")],
    where: Where,
    *,
    datastore: Datastores,
    network: Networks,
    accept_key: AcceptKey = None,
    known_hosts: KnownHosts = None,
    as_json: AsJson = False,
    target: Target,
) -> None:
    """Add a host; you confirm its key, unless it is known or --accept-key names it."""
    address = _parsed(where)
    pairs = [_pair(each) for each in network]

    async def work() -> dict[str, Any]:
        key = await _host_key(address, accept_key, known_hosts)
        body = {
            "name": host,
            "address": address.host,
            "port": address.port,
            "user": address.user,
            "host_key": key,
            "datastores": list(datastore),
            "networks": [{"interface": one, "subnet": subnet} for one, subnet in pairs],
        }
        async with target.api() as api:
            found: dict[str, Any] = await api.call("POST", PATH, body)
            return found

    found = asyncio.run(work())
    if as_json:
        say_json(found)
    else:
        say(f"added {found['name']} as {found['host']}, key {found['fingerprint']}")


@app.command("set", epilog=EPILOG)
@with_target
def set_(
    host: HostName,
    *,
    where: Annotated[
        str | None, typer.Option(help="[USER@]ADDRESS[:PORT]; you confirm its key again.")
    ] = None,
    maintenance: Annotated[
        bool | None, typer.Option(help="Create no new nodes on the host.")
    ] = None,
    accept_key: AcceptKey = None,
    known_hosts: KnownHosts = None,
    target: Target,
) -> None:
    """Change a host's address, or put it into or out of maintenance."""
    if where is None and maintenance is None:
        raise CommandError("nothing to change: give --where or --maintenance")
    address = _parsed(where) if where is not None else None

    async def work() -> None:
        body: dict[str, Any] = {}
        if maintenance is not None:
            body["maintenance"] = maintenance
        if address is not None:
            key = await _host_key(address, accept_key, known_hosts)
            body |= {"address": address.host, "port": address.port, "user": address.user}
            body["host_key"] = key
        async with target.api() as api:
            body["host"] = await _identifier(api, host)
            await api.call("POST", f"{PATH}?action=set", body)

    asyncio.run(work())
    say(f"changed {host}")


@app.command(epilog=EPILOG)
@with_target
def remove(
    host: HostName,
    *,
    abandon: Annotated[
        bool,
        typer.Option("--abandon", help="Also if nodes are still to be deleted there: it is lost."),
    ] = False,
    target: Target,
) -> None:
    """Remove a host; refused while a node is on it, or is to be deleted there."""

    async def work() -> None:
        async with target.api() as api:
            body: dict[str, Any] = {"host": await _identifier(api, host)}
            if abandon:
                body["abandon"] = True
            await api.call("POST", f"{PATH}?action=remove", body)

    asyncio.run(work())
    say(f"removed {host}")


@app.command(epilog=EPILOG)
def key(
    directory: Annotated[
        Path, typer.Argument(help="The directory of a data node.", exists=True, file_okay=False)
    ],
) -> None:
    """Print a data node's public SSH key; create the key pair if there is none.

    Each host needs the keys of both data nodes in /etc/openvcha/authorized_keys.
    """
    root = node_directory(directory)
    # asyncssh is large, and only some commands need it.
    from openvcha.infrastructure.hosts.own_key import public_key  # noqa: PLC0415

    try:
        identity = load_identity(root)
        if not identity.holds_data:
            raise CommandError("a witness has no SSH key: it does not manage hosts")
        say(public_key(Layout(root).ssh_key))
    except (OSError, ValueError) as error:
        raise CommandError(f"{root} has no usable key: {error}") from error


async def _identifier(api: Any, name: str) -> str:
    """Return the identifier of a host that is named by it, or by its name."""
    for host in await api.call("GET", PATH):
        if name in (host["host"], host["name"]):
            return str(host["host"])
    raise CommandError(f"there is no host {name} in the inventory")


async def _host_key(address: HostAddress, accept: str | None, known: Path | None) -> str:
    # asyncssh is large, and only some commands need it.
    from openvcha.cli.host_trust import trusted_host  # noqa: PLC0415
    from openvcha.infrastructure.hosts.ssh import UnusableKey  # noqa: PLC0415

    try:
        file = known or Path.home() / ".ssh" / "known_hosts"
        return (await trusted_host(address, accept, file)).host_keys[0]
    except (HostUnreachable, UnusableKey) as error:
        raise CommandError(str(error)) from error


def _parsed(where: str) -> HostAddress:
    try:
        return parse_address(where, DEFAULT_USER)
    except UnusableAddress as error:
        raise CommandError(str(error)) from error


def _pair(text: str) -> tuple[str, str]:
    interface, equals, subnet = text.partition("=")
    if not (interface and equals and subnet):
        raise CommandError(f"--network {text!r} is not INTERFACE=SUBNET")
    return interface, subnet

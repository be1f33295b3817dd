"""Access to the parts of a lab: its infrastructure, its API, its database."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import VmPowerState
from openvcha.api_server.auth.names_and_roles import UserRole
from openvcha.client import trust
from openvcha.client.errors import CommandError, RequestRefused
from openvcha.client.rest_client import ApiClient
from openvcha.infrastructure.inventory import Inventory, Vm
from openvcha.infrastructure.local.infrastructure import LocalInfrastructure
from openvcha.infrastructure.local.processes import DetachedStarter
from openvcha.lab.folders import shell_command
from openvcha.lab.state import ADMINISTRATOR, READER, Lab
from openvcha.node.identity import IDENTITY, Identity, load_identity
from openvcha.node.layout import Layout
from openvcha.node.process.process_tree import NodeProcesses, Process, find_tree

ROLES = {ADMINISTRATOR: UserRole.ADMINISTRATOR, READER: UserRole.READ_ONLY}


def lab_infrastructure(lab: Lab) -> LocalInfrastructure:
    """Return the lab's infrastructure, which may not exist yet."""
    return LocalInfrastructure(
        lab.infrastructure, NodeProcesses(), DetachedStarter(), reaches_all=True
    )


async def open_infrastructure(lab: Lab) -> LocalInfrastructure:
    """Open the lab's infrastructure; create its inventory if there is none."""
    state = lab.state()
    return await LocalInfrastructure.create(
        lab.infrastructure,
        NodeProcesses(),
        DetachedStarter(),
        management_subnet=state.management_subnet,
        ha_subnet=state.ha_subnet,
        reaches_all=True,
    )


async def lab_inventory(lab: Lab) -> Inventory:
    """Return the lab's inventory; an empty one if it does not exist yet."""
    try:
        return await lab_infrastructure(lab).inventory(power=True)
    except ApiError as error:
        if error.error_type is not ErrorType.RESOURCE_INACCESSIBLE:
            raise
        return Inventory()


@asynccontextmanager
async def client(lab: Lab) -> AsyncIterator[ApiClient]:
    """Yield a client of the lab's API."""
    async with ApiClient(lab.state().api, trust.tls_by_authority(lab.ca)) as api:
        yield api


@asynccontextmanager
async def authenticated_client(lab: Lab, user: str = ADMINISTRATOR) -> AsyncIterator[ApiClient]:
    """Yield a client of the lab's API with a session.

    Raises CommandError, RequestRefused, ServerUnreachable.
    """
    async with client(lab) as api, AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(api.session(user, lab.password(user)))
        except RequestRefused as error:
            if error.status != 401:
                raise
            raise CommandError(
                f"the API refuses the password of {user} that the lab keeps: {error.text}"
                f" {shell_command(lab, f'user passwd {user}')} sets a new one; if"
                f" {shell_command(lab, 'user list')} does not show the user,"
                f" {shell_command(lab, f'user add {user} --role {ROLES[user]}')} adds it again"
            ) from error
        yield api


def load_vm_identity(vm: Vm) -> Identity | None:
    """Return the identity of a VM's node; None if it has none yet, or was undeployed."""
    try:
        return load_identity(Path(vm.directory))
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        if (Path(vm.directory) / IDENTITY).stat().st_size == 0:
            return None  # an undeploy kept the VM but emptied its disk
        raise


def is_on(vm: Vm) -> bool:
    """Return whether a VM is powered on."""
    return vm.power_state is VmPowerState.POWERED_ON


def find_supervisor(vm: Vm) -> Process | None:
    """Return the supervisor of a VM's node, if it runs."""
    directory = Path(vm.directory)
    try:
        pid = int(Layout(directory).supervisor_pid.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return next((process for process in find_tree(directory) if process.pid == pid), None)


def data_nodes(inventory: Inventory) -> list[tuple[Vm, Identity]]:
    """Return the VMs of data nodes, running ones first."""
    known = [(vm, identity) for vm in inventory.vms if (identity := load_vm_identity(vm))]
    found = [(vm, identity) for vm, identity in known if identity.holds_data]
    return sorted(found, key=lambda pair: not is_on(pair[0]))


async def database(lab: Lab) -> dict[str, str]:
    """Return libpq's parameters for the lab. Raises CommandError if no node was ever started."""
    for vm, _ in data_nodes(await lab_inventory(lab)):
        if (tls := serves_tls(Path(vm.directory))) is not None:
            return lab.database(tls)
    raise CommandError(f"no node of the lab has ever run: {shell_command(lab, 'lab up')} starts it")


def connection_string(parameters: Mapping[str, str]) -> str:
    """Return a connection string with libpq's parameters."""
    return " ".join(f"{name}={_quoted(value)}" for name, value in parameters.items())


def _quoted(value: str) -> str:
    if value and not set(value) & set(" '\\"):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def serves_tls(directory: Path) -> bool | None:
    """Return whether a node's PostgreSQL uses TLS; None if it was never started."""
    try:
        config = msgspec.json.decode(Layout(directory).patroni_config.read_bytes())
    except FileNotFoundError:
        return None
    return bool(config["postgresql"]["parameters"].get("ssl") == "on")

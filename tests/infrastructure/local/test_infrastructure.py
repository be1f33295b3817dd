"""The local inventory: created once, changed by many, never half-written."""

import asyncio
import errno
import socket
import stat
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from msgspec.structs import replace
from tests.support.vms import created

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import (
    HostConnectionState,
    InventoryNetworkType,
    IpFamily,
    VmPowerState,
)
from openvcha.infrastructure import changes
from openvcha.infrastructure.interface import Infrastructure, NodeRequest, Power
from openvcha.infrastructure.local import infrastructure as local
from openvcha.infrastructure.local.files import path_below
from openvcha.infrastructure.local.infrastructure import HostProbe, LocalInfrastructure
from openvcha.infrastructure.local.processes import DetachedStarter, ProcessTable, address_answers


class PowerLossError(Exception):
    """Raised where the power fails: nothing after this point happened."""


class Usage(NamedTuple):
    total: int
    free: int


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_directory(path: str) -> bool:
    return Path(path).is_dir()


def key(error: ApiError) -> str:
    return error.messages[0].id.rpartition("infrastructure.")[2]


async def test_it_is_an_infrastructure(infrastructure: LocalInfrastructure) -> None:
    """It satisfies the protocol (mypy checks the signatures)."""
    checked: Infrastructure = infrastructure
    assert (await checked.inventory()).vms == ()


async def test_first_inventory(infrastructure: LocalInfrastructure) -> None:
    """The inventory has what a placement needs, and every reference in it resolves."""
    inventory = await infrastructure.inventory()
    assert [host.id for host in inventory.hosts] == ["host-11", "host-12", "host-13"]
    assert {network.subnet for network in inventory.networks} == {"127.83.1.0/24", "127.83.2.0/24"}
    kinds = {(network.type, network.subnet) for network in inventory.networks}
    assert len(kinds) == 2 * len(InventoryNetworkType) - 2 == 4
    for host in inventory.hosts:
        assert inventory.cluster(host.cluster)
        assert inventory.datacenter(host.datacenter)
        assert all(map(inventory.network, host.networks))
        assert all(map(inventory.datastore, host.datastores))
    for pool in inventory.resource_pools:
        assert inventory.hosts_of_pool(pool) == inventory.hosts
    folders = {item.folder for item in inventory.networks}
    assert all(map(inventory.folder, folders | {item.folder for item in inventory.datastores}))
    for datastore in inventory.datastores:
        assert is_directory(datastore.path)
        assert 0 < datastore.free_space <= datastore.capacity


async def test_only_the_owner_may_look(
    infrastructure: LocalInfrastructure, request_1: NodeRequest
) -> None:
    """The inventory is 0600, all directories are 0700, also those of VMs."""
    made = await created(infrastructure, request_1)
    await infrastructure.write_files(made.id, {"tls/node.key": b"key"})
    directory = Path(made.directory)
    assert mode(infrastructure.root / "inventory.json") == 0o600
    assert mode(directory / "tls" / "node.key") == 0o600
    for path in (infrastructure.root, directory.parent, directory, directory / "tls"):
        assert mode(path) == 0o700


async def test_create_again_keeps_everything(
    infrastructure: LocalInfrastructure,
    processes: ProcessTable,
    starter: DetachedStarter,
    request_1: NodeRequest,
) -> None:
    """Creating an existing inventory changes nothing; other subnets are refused."""
    await created(infrastructure, request_1)
    before = await infrastructure.inventory()
    again = await LocalInfrastructure.create(infrastructure.root, processes, starter)
    assert replace(await again.inventory(), datastores=()) == replace(before, datastores=())
    with pytest.raises(ApiError) as caught:
        await LocalInfrastructure.create(
            infrastructure.root, processes, starter, ha_subnet="127.84.2.0/24"
        )
    assert (caught.value.error_type, key(caught.value)) == (ErrorType.INVALID_ARGUMENT, "other")


@pytest.mark.parametrize(
    ("management", "ha"),
    [
        ("127.83.1.0/24", "127.83.1.0/24"),
        ("127.83.0.0/16", "127.83.2.0/24"),
        ("10.0.0.0/24", "127.83.2.0/24"),
        ("127.83.1.0/31", "127.83.2.0/24"),
        ("127.83.1.7/24", "127.83.2.0/24"),
        ("fd00::/64", "127.83.2.0/24"),
        ("x", "127.83.2.0/24"),
    ],
)
async def test_unusable_subnets(
    management: str, ha: str, tmp_path: Path, processes: ProcessTable, starter: DetachedStarter
) -> None:
    """Subnets must be of the loopback network, apart from each other and not too small."""
    root = tmp_path / "root"
    with pytest.raises(ApiError) as caught:
        await LocalInfrastructure.create(
            root, processes, starter, management_subnet=management, ha_subnet=ha
        )
    assert key(caught.value) == "subnets"
    assert not root.exists()


@pytest.mark.parametrize("content", [None, b"{", b'{"version": 2, "next_vm": 1, "inventory": {}}'])
async def test_no_usable_inventory(
    content: bytes | None, tmp_path: Path, processes: ProcessTable, starter: DetachedStarter
) -> None:
    """A root without a readable inventory is reported as such, and left unchanged."""
    if content is not None:
        (tmp_path / "inventory.json").write_bytes(content)
    opened = LocalInfrastructure(tmp_path, processes, starter)
    with pytest.raises(ApiError) as caught:
        await opened.inventory()
    assert caught.value.error_type == ErrorType.RESOURCE_INACCESSIBLE
    assert str(tmp_path) in caught.value.messages[0].default_message


async def test_create_vm(infrastructure: LocalInfrastructure, request_1: NodeRequest) -> None:
    """A new VM is off, has its identifiers and a directory, and is found by its token."""
    made = await created(infrastructure, request_1)
    assert made.power_state == VmPowerState.POWERED_OFF
    assert made.id == "vm-42"
    assert is_directory(made.directory)
    assert made.directory.endswith("/datastore-14/vcha-passive")
    found = await infrastructure.find("deploy-1")
    assert found is not None
    assert (found.vm, found.done) == (made.id, True)
    assert await infrastructure.find("deploy-2") is None
    assert (await infrastructure.inventory(power=True)).vms == (made,)


async def test_create_vm_again(infrastructure: LocalInfrastructure, request_1: NodeRequest) -> None:
    """The same token is the same VM, even when the first try ended before the directory existed."""
    made = await created(infrastructure, request_1)
    await asyncio.to_thread(Path(made.directory).rmdir)
    assert await created(infrastructure, request_1) == made
    assert is_directory(made.directory)


async def test_name_taken(infrastructure: LocalInfrastructure, request_1: NodeRequest) -> None:
    """Another token cannot use the name, in any case."""
    await created(infrastructure, request_1)
    place = replace(request_1.placement, name="VCHA-passive", datastore="datastore-17")
    other = replace(request_1, token="other", placement=place)
    with pytest.raises(ApiError) as caught:
        await infrastructure.begin(other)
    assert caught.value.error_type == ErrorType.ALREADY_EXISTS


async def test_the_files_of_others_are_not_taken(
    infrastructure: LocalInfrastructure, request_1: NodeRequest
) -> None:
    """A directory with content that is not a VM's is neither used nor harmed."""
    directory = infrastructure.root / "datastores" / "datastore-14" / request_1.placement.name
    directory.mkdir()
    (directory / "precious").touch()
    with pytest.raises(ApiError) as caught:
        await created(infrastructure, request_1)
    assert (caught.value.error_type, key(caught.value)) == (
        ErrorType.ALREADY_EXISTS,
        "vm.directory",
    )
    assert (directory / "precious").exists()
    assert (await infrastructure.inventory()).vms == ()


@pytest.mark.parametrize(
    "field", ["folder", "host", "resource_pool", "datastore", "ha_network", "management_network"]
)
async def test_unknown_identifier(
    field: str, infrastructure: LocalInfrastructure, request_1: NodeRequest
) -> None:
    """A VM cannot be created on an object that does not exist."""
    place = replace(request_1.placement, **{field: "nowhere-1"})
    with pytest.raises(ApiError) as caught:
        await infrastructure.begin(replace(request_1, placement=place))
    assert caught.value.error_type == ErrorType.NOT_FOUND
    assert "nowhere-1" in caught.value.messages[0].args


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b"])
async def test_name_is_no_path(
    name: str, infrastructure: LocalInfrastructure, request_1: NodeRequest
) -> None:
    """A name never leads out of the datastore."""
    place = replace(request_1.placement, name=name)
    with pytest.raises(ApiError) as caught:
        await infrastructure.begin(replace(request_1, placement=place))
    assert caught.value.error_type == ErrorType.INVALID_ARGUMENT


async def test_identifiers_are_never_used_again(
    infrastructure: LocalInfrastructure, request_1: NodeRequest
) -> None:
    """A VM created after another was deleted has another id and another BIOS UUID."""
    first = await created(infrastructure, request_1)
    await infrastructure.delete(first.id)
    second = await created(infrastructure, request_1)
    assert second.id != first.id
    assert second.bios_uuid != first.bios_uuid


async def test_delete(infrastructure: LocalInfrastructure, request_1: NodeRequest) -> None:
    """No directory, no entry; deletion is idempotent."""
    made = await created(infrastructure, request_1)
    await infrastructure.write_files(made.id, {"a/b": b"x"})
    assert await infrastructure.delete(made.id)
    assert await infrastructure.delete(made.id)
    assert not is_directory(made.directory)
    assert (await infrastructure.inventory()).vms == ()
    assert list((infrastructure.root / "locks").iterdir()) == []


@pytest.mark.parametrize("lost", ["_delete_tree", "entry"])
async def test_delete_goes_on_after_a_crash(
    lost: str,
    infrastructure: LocalInfrastructure,
    request_1: NodeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whenever the power fails, a half-deleted VM can only be deleted."""
    made = await created(infrastructure, request_1)
    await infrastructure.write_files(made.id, {"a": b"x"})
    with monkeypatch.context() as patch:
        if lost == "entry":
            patch.setattr(changes, "remove_vm", _crash)
        else:
            patch.setattr(local, "_delete_tree", _crash)
        with pytest.raises(PowerLossError):
            await infrastructure.delete(made.id)
    for refused in (
        infrastructure.begin(request_1),
        infrastructure.power_on(made.id),
        infrastructure.write_files(made.id, {"a": b"y"}),
    ):
        with pytest.raises(ApiError) as caught:
            await refused
        assert key(caught.value) == "vm.deleting"
    await infrastructure.power_off(made.id)
    await infrastructure.delete(made.id)
    assert (await infrastructure.begin(request_1)).vm != made.id


async def test_what_may_not_be_deleted_stays_what_it_was(
    infrastructure: LocalInfrastructure, request_1: NodeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory is refused as a whole, before any of it is deleted."""
    made = await created(infrastructure, request_1)
    await infrastructure.write_files(made.id, {"a": b"x"})

    def refused(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(self), None, str(target))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(PermissionError):
            await infrastructure.delete(made.id)
    assert not (await infrastructure.inventory()).vms[0].deleting
    assert await infrastructure.read_file(made.id, "a") == b"x"
    await infrastructure.delete(made.id)
    assert (await infrastructure.inventory()).vms == ()


def _crash(_: object) -> None:
    raise PowerLossError


async def test_files(infrastructure: LocalInfrastructure, request_1: NodeRequest) -> None:
    """Files are replaced atomically and can be read again."""
    made = await created(infrastructure, request_1)
    await infrastructure.write_files(made.id, {"node.json": b"old", "tls/ca.crt": b"ca"})
    await infrastructure.write_files(made.id, {"node.json": b"new"})
    assert await infrastructure.read_file(made.id, "node.json") == b"new"
    assert await infrastructure.read_file(made.id, "tls/ca.crt") == b"ca"
    for missing in ("nothing", "tls", "node.json/x"):
        with pytest.raises(ApiError) as caught:
            await infrastructure.read_file(made.id, missing)
        assert caught.value.error_type == ErrorType.NOT_FOUND


@pytest.mark.parametrize(
    "path", ["", ".", "/etc/passwd", "../x", "a/../../x", "a/../b", "a\0b", "link/x"]
)
async def test_files_stay_inside(
    path: str, infrastructure: LocalInfrastructure, request_1: NodeRequest, tmp_path: Path
) -> None:
    """No path leads out of the VM, and one bad path among good ones writes nothing."""
    made = await created(infrastructure, request_1)
    (Path(made.directory) / "link").symlink_to(tmp_path)
    for tried in (
        infrastructure.write_files(made.id, {"good": b"", path: b""}),
        infrastructure.read_file(made.id, path),
    ):
        with pytest.raises(ApiError) as caught:
            await tried
        assert caught.value.error_type == ErrorType.INVALID_ARGUMENT
    assert not (Path(made.directory) / "good").exists()


def test_inside_allows_ordinary_paths(tmp_path: Path) -> None:
    """Ordinary relative paths are accepted."""
    assert path_below(tmp_path, "a/b.c") == tmp_path / "a" / "b.c"


async def test_unknown_vm(infrastructure: LocalInfrastructure) -> None:
    """Calls that need a VM report when it is missing; a malformed identifier is just unknown."""
    for tried in (
        infrastructure.power_on("vm-1"),
        infrastructure.write_files("vm-1", {}),
        infrastructure.read_file("vm-1", "a"),
        infrastructure.set_host("host-1", maintenance=True),
        infrastructure.set_reserved("datastore-1", 1),
        infrastructure.free_bytes("datastore-1"),
    ):
        with pytest.raises(ApiError) as caught:
            await tried
        assert caught.value.error_type == ErrorType.NOT_FOUND
    assert await infrastructure.power_off("../vm-1") is Power.GONE
    assert (await infrastructure.node("../vm-1")).power is Power.GONE


async def test_host_settings(infrastructure: LocalInfrastructure) -> None:
    """A host can be taken out of service and back, with each setting separately."""
    await infrastructure.set_host("host-12", maintenance=True)
    await infrastructure.set_host("host-12", connection_state=HostConnectionState.DISCONNECTED)
    host = (await infrastructure.inventory()).host("host-12")
    assert host is not None
    assert (host.maintenance, host.connection_state) == (True, HostConnectionState.DISCONNECTED)
    await infrastructure.set_host("host-12", maintenance=False)
    host = (await infrastructure.inventory()).host("host-12")
    assert host is not None
    assert (host.maintenance, host.connection_state) == (False, HostConnectionState.DISCONNECTED)


async def test_space(tmp_path: Path, processes: ProcessTable, starter: DetachedStarter) -> None:
    """Free space is the disk's, less what is reserved; a lost datastore has none."""
    machine = HostProbe(disk_usage=lambda _: Usage(total=1_000, free=600))
    infrastructure = await LocalInfrastructure.create(
        tmp_path / "root", processes, starter, machine=machine
    )
    await infrastructure.set_reserved("datastore-14", 500)
    assert await infrastructure.free_bytes("datastore-14") == 100
    assert await infrastructure.free_bytes("datastore-17") == 600
    await infrastructure.set_reserved("datastore-14", 601)
    assert await infrastructure.free_bytes("datastore-14") == 0
    (tmp_path / "root" / "datastores" / "datastore-17").rmdir()
    assert await infrastructure.free_bytes("datastore-17") == 0


async def test_address_of_a_vm_is_in_use(
    infrastructure: LocalInfrastructure, request_1: NodeRequest
) -> None:
    """A VM that is off still owns its address, except for its replacement."""
    made = await created(infrastructure, request_1)
    assert await infrastructure.address_in_use("127.83.2.12")
    assert not await infrastructure.address_in_use("127.83.2.12", ignoring=(made.id,))
    assert not await infrastructure.address_in_use("127.83.2.13")


async def test_address_that_answers_is_in_use(
    tmp_path: Path, processes: ProcessTable, starter: DetachedStarter
) -> None:
    """An address is in use where any other program listens."""
    machine = HostProbe(answers=lambda address: address == "127.83.2.13")
    infrastructure = await LocalInfrastructure.create(
        tmp_path / "root", processes, starter, machine=machine
    )
    assert await infrastructure.address_in_use("127.83.2.13")
    assert not await infrastructure.address_in_use("127.83.2.14")


def test_probe() -> None:
    """The probe finds a listener on that address only; an address of another host never answers."""
    with socket.create_server(("127.83.250.1", 0)) as server:
        port = server.getsockname()[1]
        assert address_answers("127.83.250.1", [1, port])
        assert not address_answers("127.83.250.2", [port])
    assert not address_answers("127.83.250.1", [port])
    assert not address_answers("192.0.2.1", [port])


async def test_families(infrastructure: LocalInfrastructure) -> None:
    """The local infrastructure reports that it has no IPv6 addresses for nodes."""
    assert infrastructure.unsupported_family(IpFamily.IPV4) is None
    message = infrastructure.unsupported_family(IpFamily.IPV6)
    assert message is not None
    assert "::1" in message.default_message


WRITER = """
import asyncio, pathlib, sys
from openvcha.infrastructure.local.infrastructure import LocalInfrastructure
from openvcha.infrastructure.interface import Placement, NodeRequest

class Nothing:
    def find(self, directory): return []
    def find_each(self, directories): return [[] for _ in directories]
    async def kill(self, directory): pass

async def start(directory, console): return 0

async def main(root, writer):
    infrastructure = LocalInfrastructure(pathlib.Path(root), Nothing(), start)
    async def one(number):
        name = f"w{writer}-{number}"
        place = Placement(
            name=name, folder="group-v3", host="host-11", resource_pool="resgroup-9",
            datastore="datastore-14", ha_network="network-15", management_network="network-12")
        made = await infrastructure.begin(NodeRequest(placement=place, token=name))
        if number % 2:
            await infrastructure.delete(made.vm)
    await asyncio.gather(*map(one, range(10)))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def test_many_writers_lose_nothing(infrastructure: LocalInfrastructure) -> None:
    """Four processes, ten tasks in each: every VM exists, every id is used once."""
    writers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(infrastructure.root), str(number)
        )
        for number in range(4)
    ]
    assert [await writer.wait() for writer in writers] == [0] * 4
    inventory = await infrastructure.inventory()
    assert sorted(vm.name for vm in inventory.vms) == sorted(
        f"w{writer}-{number}" for writer in range(4) for number in range(0, 10, 2)
    )
    assert len({vm.id for vm in inventory.vms}) == 20
    stored = msgspec.json.decode((infrastructure.root / "inventory.json").read_bytes())
    assert stored["next_vm"] == 42 + 40
    assert list(infrastructure.root.glob(".inventory*")) == []


async def test_one_token_many_creators(
    infrastructure: LocalInfrastructure, request_1: NodeRequest
) -> None:
    """Any number of creators with one token get one VM."""
    made = await asyncio.gather(*(infrastructure.begin(request_1) for _ in range(8)))
    assert len({creation.vm for creation in made}) == 1


async def test_a_killed_writer_leaves_no_lock(infrastructure: LocalInfrastructure) -> None:
    """A writer that dies while it holds the lock does not block the others."""
    hold = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True)"
    writer = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"{hold}; time.sleep(600)",
        str(infrastructure.root / "inventory.lock"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert writer.stdout is not None
    await writer.stdout.readline()
    change = asyncio.create_task(infrastructure.set_host("host-11", maintenance=True))
    # Reading needs no lock, and the event loop goes on meanwhile.
    assert (await infrastructure.inventory()).hosts[0].maintenance is False
    assert not change.done()
    writer.kill()
    await writer.communicate()
    await change
    assert (await infrastructure.inventory()).hosts[0].maintenance is True

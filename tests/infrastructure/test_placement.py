"""Placement of a node: each finding, all findings at once, and the choices made."""

import ipaddress
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from openvcha.api.structures import (
    DiskSpec,
    HostConnectionState,
    HostPowerState,
    NetworkType,
    PlacementSpec,
)
from openvcha.infrastructure.inventory import Inventory, Vm, VmNetworks
from openvcha.infrastructure.placement import (
    PlacementDefaults,
    defaults_around,
    defaults_from,
    placement_info,
    resolve,
)

STANDARD = NetworkType.STANDARD_PORTGROUP
DISTRIBUTED = NetworkType.DISTRIBUTED_PORTGROUP
MINIMAL = PlacementSpec(name="vcha-passive", folder="group-v3")
FULL = PlacementSpec(
    name="vcha-passive",
    folder="group-v3",
    host="host-13",
    resource_pool="resgroup-10",
    ha_network="dvportgroup-16",
    ha_network_type=DISTRIBUTED,
    management_network="network-12",
    management_network_type=STANDARD,
    storage=DiskSpec(datastore="datastore-17"),
)
DEFAULTS = PlacementDefaults(
    resource_pool="resgroup-9",
    ha_network="network-15",
    management_network="network-12",
    used_hosts=frozenset({"host-11", "host-13"}),
    used_datastores=frozenset({"datastore-14"}),
)


def vm(number: int, host: str, name: str = "vm") -> Vm:
    return Vm(
        id=f"vm-{number}",
        name=f"{name}{number}",
        token=f"t{number}",
        bios_uuid=f"uuid-{number}",
        host=host,
        folder="group-v3",
        resource_pool="resgroup-9",
        datastore="datastore-14",
        networks=VmNetworks(ha="network-15", management="network-12"),
        directory=f"/datastore-14/vm{number}",
    )


def with_host(inventory: Inventory, identifier: str, **changes: object) -> Inventory:
    hosts = tuple(
        replace(host, **changes) if host.id == identifier else host for host in inventory.hosts
    )
    return replace(inventory, hosts=hosts)


def same(inventory: Inventory) -> Inventory:
    return inventory


def host_11(**changes: object) -> Callable[[Inventory], Inventory]:
    return lambda inventory: with_host(inventory, "host-11", **changes)


def other_vm(inventory: Inventory) -> Inventory:
    return replace(inventory, vms=(vm(7, "host-11", name="VCHA-Passive"),))


def wishing(**changes: object) -> PlacementSpec:
    return replace(MINIMAL, **changes)


STORAGE_99 = DiskSpec(datastore="datastore-99")

FINDINGS = [
    ("name.taken", "name", wishing(name="vcha-passive7"), other_vm),
    ("unknown", "folder", wishing(folder="group-v4"), same),
    ("folder.type", "folder", wishing(folder="group-h4"), same),
    ("unknown", "host", wishing(host="host-99"), same),
    ("host.pool", "host", wishing(host="host-21"), same),
    ("host.pool", "host", wishing(host="host-31"), same),
    (
        "host.disconnected",
        "host",
        wishing(host="host-11"),
        host_11(connection_state=HostConnectionState.NOT_RESPONDING),
    ),
    (
        "host.off",
        "host",
        wishing(host="host-11"),
        host_11(power_state=HostPowerState.POWERED_OFF),
    ),
    ("host.maintenance", "host", wishing(host="host-11"), host_11(maintenance=True)),
    (
        "host.network",
        "host",
        wishing(host="host-11"),
        host_11(networks=frozenset({"network-12"})),
    ),
    ("unknown", "resource_pool", wishing(resource_pool="resgroup-1"), same),
    ("unknown", "ha_network", wishing(ha_network="network-1", ha_network_type=STANDARD), same),
    ("network.type.missing", "ha_network_type", wishing(ha_network="network-15"), same),
    (
        "network.type.mismatch",
        "ha_network_type",
        wishing(ha_network="network-15", ha_network_type=DISTRIBUTED),
        same,
    ),
    (
        "unknown",
        "management_network",
        wishing(management_network="network-1", management_network_type=STANDARD),
        same,
    ),
    (
        "network.type.missing",
        "management_network_type",
        wishing(management_network="network-12"),
        same,
    ),
    (
        "network.type.mismatch",
        "management_network_type",
        wishing(management_network="network-12", management_network_type=DISTRIBUTED),
        same,
    ),
    (
        "network.same",
        "ha_network",
        wishing(ha_network="network-12", ha_network_type=STANDARD),
        same,
    ),
    (
        "host.none",
        "host",
        wishing(ha_network="network-99", ha_network_type=STANDARD),
        same,
    ),
    ("host.none", "host", wishing(storage=STORAGE_99), same),
    ("unknown", "storage.datastore", wishing(storage=DiskSpec(datastore="datastore-1")), same),
    (
        "datastore.unreachable",
        "storage.datastore",
        wishing(host="host-11", storage=STORAGE_99),
        same,
    ),
    (
        "datastore.none",
        "storage.datastore",
        wishing(host="host-11"),
        host_11(datastores=frozenset()),
    ),
]


@pytest.mark.parametrize(("key", "field", "spec", "change"), FINDINGS)
def test_each_finding(
    key: str,
    field: str,
    spec: PlacementSpec,
    change: Callable[[Inventory], Inventory],
    inventory: Inventory,
) -> None:
    """A single error gives exactly one finding, with the path of the field, and no placement."""
    placement, errors, _ = resolve(spec, change(inventory), DEFAULTS, 1_000)
    assert [(error.id, error.args[0]) for error in errors] == [
        (f"com.vmware.vcenter.vcha.placement.{key}", f"spec.placement.{field}")
    ]
    assert placement is None


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "-a", "a/b", "..", "a\nb", "a\0b", "ä", "a" * 81, "a.", "%s"]
)
def test_unusable_names(name: str, inventory: Inventory) -> None:
    """A name must be usable as a directory and as a label everywhere."""
    _, errors, _ = resolve(wishing(name=name), inventory, DEFAULTS, 0)
    assert [error.id.rpartition("placement.")[2] for error in errors] == ["name.invalid"]


@pytest.mark.parametrize("name", ["a", "A1", "vcha passive", "x_", "a" * 80, "node.lab-2"])
def test_usable_names(name: str, inventory: Inventory) -> None:
    """Ordinary names are accepted."""
    assert resolve(wishing(name=name), inventory, DEFAULTS, 0).errors == []


@pytest.mark.parametrize("storage", [None, DiskSpec(), DiskSpec(datastore="datastore-14")])
def test_too_little_space(storage: DiskSpec | None, inventory: Inventory) -> None:
    """Too little space is reported for a requested datastore and for a chosen one."""
    spec = wishing(storage=storage)
    placement, errors, _ = resolve(spec, inventory, DEFAULTS, 5_001)
    assert placement is None
    (error,) = errors
    assert error.id.endswith("placement.datastore.space")
    assert error.args[0] == "spec.placement.storage.datastore"
    assert error.args[2:] == ("5000", "5001")
    assert resolve(spec, inventory, DEFAULTS, 5_000).errors == []


def test_all_findings_at_once(inventory: Inventory) -> None:
    """A placement with every error gets every finding."""
    spec = PlacementSpec(
        name="../x",
        folder="group-1",
        host="host-1",
        resource_pool="resgroup-1",
        ha_network="network-15",
        management_network="network-1",
        management_network_type=DISTRIBUTED,
        storage=DiskSpec(datastore="datastore-1"),
    )
    _, errors, _ = resolve(spec, inventory, DEFAULTS, 1, field="spec.passive.placement")
    prefix = "spec.passive.placement."
    assert sorted(error.args[0].removeprefix(prefix) for error in errors) == [
        "folder",
        "ha_network_type",
        "host",
        "management_network",
        "name",
        "resource_pool",
        "storage.datastore",
    ]


def test_defaults_unknown(inventory: Inventory) -> None:
    """Without an active to take them from, unset fields are required."""
    _, errors, _ = resolve(MINIMAL, inventory, PlacementDefaults(), 0)
    assert {error.args[0] for error in errors} == {
        "spec.placement.resource_pool",
        "spec.placement.ha_network",
        "spec.placement.management_network",
    }


def test_everything_given(inventory: Inventory) -> None:
    """Requested values are used, even beside another node: with a warning."""
    placement, errors, warnings = resolve(FULL, inventory, DEFAULTS, 5_000)
    assert errors == []
    assert placement is not None
    assert placement.host == FULL.host
    assert placement.resource_pool == FULL.resource_pool
    assert placement.ha_network == FULL.ha_network
    assert placement.management_network == FULL.management_network
    assert placement.datastore == "datastore-17"
    assert [warning.id.rpartition("placement.")[2] for warning in warnings] == ["host.shared"]


def test_only_the_required_fields(inventory: Inventory) -> None:
    """Unset fields follow the active; host and datastore avoid those of other nodes."""
    placement, errors, warnings = resolve(MINIMAL, inventory, DEFAULTS, 0)
    assert (errors, warnings) == ([], [])
    assert placement is not None
    assert placement.resource_pool == "resgroup-9"
    assert (placement.ha_network, placement.management_network) == ("network-15", "network-12")
    assert placement.host == "host-12"
    assert placement.datastore == "datastore-17"


def test_a_type_alone_is_ignored(inventory: Inventory) -> None:
    """A network's type without the network has no effect."""
    spec = wishing(ha_network_type=DISTRIBUTED, management_network_type=DISTRIBUTED)
    assert resolve(spec, inventory, DEFAULTS, 0) == resolve(MINIMAL, inventory, DEFAULTS, 0)


def test_no_host_to_itself(inventory: Inventory) -> None:
    """When only hosts of other nodes are left, one is used, with a warning."""
    alone = with_host(inventory, "host-12", maintenance=True)
    placement, errors, warnings = resolve(MINIMAL, alone, DEFAULTS, 0)
    assert errors == []
    assert placement is not None
    assert placement.host in DEFAULTS.used_hosts
    assert [warning.id.rpartition("placement.")[2] for warning in warnings] == [
        "host.shared.chosen"
    ]


def test_least_loaded_host(inventory: Inventory) -> None:
    """Among hosts without a node the one with the fewest VMs is chosen."""
    busy = replace(inventory, vms=(vm(1, "host-11"), vm(2, "host-12"), vm(3, "host-12")))
    free = replace(DEFAULTS, used_hosts=frozenset({"host-13"}))
    placement, _, _ = resolve(MINIMAL, busy, free, 0)
    assert placement is not None
    assert placement.host == "host-11"


def test_host_with_room(inventory: Inventory) -> None:
    """A host must reach a datastore with enough space."""
    wide = with_host(inventory, "host-13", datastores=frozenset({"datastore-99"}))
    placement, errors, warnings = resolve(MINIMAL, wide, DEFAULTS, 8_000)
    assert errors == []
    assert placement is not None
    assert (placement.host, placement.datastore) == ("host-13", "datastore-99")
    assert len(warnings) == 1


def test_most_free_space(inventory: Inventory) -> None:
    """Of the datastores that the host reaches, the one with the most free space is chosen."""
    wide = with_host(
        inventory, "host-12", datastores=frozenset({"datastore-14", "datastore-17", "datastore-99"})
    )
    placement, _, _ = resolve(MINIMAL, wide, DEFAULTS, 0)
    assert placement is not None
    assert placement.datastore == "datastore-99"


def test_the_copies_are_kept_apart(inventory: Inventory) -> None:
    """More free space does not outweigh the other copy of the data; too little space does."""
    wide = with_host(inventory, "host-12", datastores=frozenset({"datastore-17", "datastore-99"}))
    shared = replace(DEFAULTS, used_datastores=frozenset({"datastore-99"}))
    apart, together = (resolve(MINIMAL, wide, shared, need).placement for need in (0, 8_000))
    assert apart is not None
    assert apart.datastore == "datastore-17"
    assert together is not None
    assert together.datastore == "datastore-99"


def test_the_own_vm_is_no_obstacle(inventory: Inventory) -> None:
    """Checking again after the VM was created gives the same placement, not a name in use."""
    made = replace(vm(7, "host-12"), name=MINIMAL.name, token="mine")
    again = replace(inventory, vms=(made,))
    assert resolve(MINIMAL, again, DEFAULTS, 0).errors != []
    assert resolve(MINIMAL, again, replace(DEFAULTS, token="mine"), 0).errors == []


def test_defaults_from_the_active(inventory: Inventory) -> None:
    """The active's pool and networks are the defaults; all other nodes' hosts are avoided."""
    made = defaults_from(inventory, vm(1, "host-11"), (vm(2, "host-12"),), token="t")
    assert made == PlacementDefaults(
        resource_pool="resgroup-9",
        ha_network="network-15",
        management_network="network-12",
        used_hosts=frozenset({"host-11", "host-12"}),
        used_datastores=frozenset({"datastore-14"}),
        token="t",
    )


def test_defaults_around_an_active_that_no_inventory_has(inventory: Inventory) -> None:
    """As `vcha init` makes one: the only pool, and the networks that contain its addresses."""
    ha, public = (ipaddress.ip_network(each.subnet) for each in inventory.networks[:2])
    (pool,) = inventory.resource_pools[:1]
    one = replace(inventory, networks=inventory.networks[:2], resource_pools=(pool,))
    made = defaults_around(one, str(ha[5]), str(public[9]))
    found = (made.resource_pool, made.ha_network, made.management_network)
    assert found == (pool.id, *(each.id for each in inventory.networks[:2]))
    twice = replace(one, networks=(*one.networks, one.networks[0]), resource_pools=(pool, pool))
    unclear = defaults_around(twice, str(ha[5]), "db.example.net")
    assert unclear == PlacementDefaults()


def test_placement_info(inventory: Inventory) -> None:
    """The API reports the names of everything that the node uses."""
    info = placement_info(vm(1, "host-11"), inventory, "vc.local", "guid")
    assert (info.management_vcenter_name, info.management_vcenter_server_guid) == (
        "vc.local",
        "guid",
    )
    assert (info.datacenter_name, info.host_name, info.cluster) == ("near", "h11", "domain-c8")
    assert (info.ha_network, info.ha_network_type) == ("network-15", STANDARD)
    assert info.storage.datastore_name == "ds datastore-14"
    assert info.bios_uuid == "uuid-1"
    alone = placement_info(vm(1, "host-31"), inventory, "vc.local")
    assert (alone.cluster, alone.cluster_name) == (None, None)
    with pytest.raises(LookupError, match="host-77"):
        placement_info(vm(1, "host-77"), inventory, "vc.local")

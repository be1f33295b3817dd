"""The names and addresses of a deployment's nodes."""

from itertools import islice

import pytest

from openvcha.infrastructure.inventory import Inventory, Vm, VmNetworks
from openvcha.lab.deploy import free_numbers
from openvcha.lab.state import LabState

STATE = LabState(name="l", octet=83, cluster_id="c")


def vm(name: str, number: int) -> Vm:
    return Vm(
        id=f"vm-{number}",
        name=name,
        token=name,
        bios_uuid="u",
        host="host-11",
        folder="group-v3",
        resource_pool="resgroup-9",
        datastore="datastore-14",
        networks=VmNetworks(ha="network-15", management="network-12"),
        directory=name,
        addresses=(STATE.ha_address(number),),
    )


@pytest.mark.parametrize(
    ("there", "free"),
    [
        ([vm("vcha-1", 1)], [2, 3]),
        # Another node is active now, and an undeploy has deleted the others.
        ([vm("VCHA-2", 2)], [1, 3]),
        ([vm("new", 3)], [1, 2]),
        # An undeploy has kept the others.
        ([vm("vcha-1", 1), vm("vcha-2", 2), vm("vcha-3", 3)], [4, 5]),
        ([vm("vcha-3", 1)], [2, 4]),
    ],
)
def test_names_and_addresses_are_free(there: list[Vm], free: list[int]) -> None:
    """Both have the same number, which identifies the node."""
    assert list(islice(free_numbers(STATE, Inventory(vms=tuple(there))), 2)) == free

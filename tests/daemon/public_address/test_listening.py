"""How a node listens at the public address: by the switch in a lab, and itself anywhere else."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.switches import connected, free_place, hold, switching

from openvcha.daemon.leading.leader_term import LeaderTerm
from openvcha.daemon.public_address.listening import listens
from openvcha.infrastructure.local.switch_client import SwitchClient
from openvcha.node.identity import Identity


def identity(infrastructure: dict[str, Any]) -> Identity:
    return Identity(
        cluster_id="c",
        cluster_name="lab",
        member="a-1",
        kind="data",
        vm="vm-42",
        name="vcha-1",
        ha_address="127.0.0.1",
        etcd_initial_cluster={},
        infrastructure=infrastructure,
    )


async def test_in_a_lab_the_switch_listens_for_it(tmp_path: Path) -> None:
    """With the term at that moment, under the node's name."""
    place, term = free_place(), LeaderTerm()
    take = listens(identity({"kind": "local", "root": str(tmp_path)}), term)
    term.revision = 7
    async with switching(tmp_path):
        listener = await take(*place)
        (shown,) = await SwitchClient(tmp_path).held()
        assert (shown.holder, shown.token) == ("vcha-1", 7)
        await hold(tmp_path, place, 8)
        with pytest.raises(OSError, match="later token 8"):
            await take(*place)
        listener.close()


@pytest.mark.parametrize("infrastructure", [{}, {"kind": "hosts"}])
async def test_elsewhere_it_listens_itself(infrastructure: dict[str, Any]) -> None:
    """A node that a person made, say: no switch can be asked there."""
    place = free_place()
    listener = await listens(identity(infrastructure), LeaderTerm())(*place)
    (await connected(place)).close()
    listener.close()

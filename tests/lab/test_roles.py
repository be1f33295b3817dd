"""Finding the node that a person means."""

from pathlib import Path

import pytest
from tests.support.lab.inventory import INVENTORY

from openvcha.client.errors import CommandError
from openvcha.lab.roles import Roles, select
from openvcha.lab.state import Lab

KNOWN = Roles({"active": "vm-43", "passive": None})
LAB = Lab(Path("/labs/mine"))


@pytest.mark.parametrize("text", ["active", "vcha-2", "VCHA-2", "vm-43"])
def test_a_node_has_a_role_a_name_and_an_id(text: str) -> None:
    """Each of them identifies it."""
    assert select(LAB, INVENTORY, KNOWN, text).id == "vm-43"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("passive", r"was destroyed \(`vcha lab status --name mine --dir /labs`\)"),
        ("witness", "cannot tell which node is the witness now"),
        ("vcha-9", "there are: active, passive, witness, vcha-1, vcha-2"),
    ],
)
def test_what_is_not_there_is_told(text: str, told: str) -> None:
    """The error lists the valid choices."""
    with pytest.raises(CommandError, match=told):
        select(LAB, INVENTORY, KNOWN, text)

"""What the random walk observes, on a SIMULATED lab."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.support.lab.walk_world import LabProbe


@dataclass
class Node:
    """A node that takes writes in some of the looks."""

    name: str
    looks: Iterator[bool]

    def writable(self) -> bool:
        return next(self.looks)


@pytest.mark.parametrize(
    ("nodes", "takers"),
    [
        ({"a": [True], "b": [False]}, {"a"}),
        ({"a": [False], "b": [False]}, set()),
        ({"a": [True, False], "b": [True, True]}, {"b"}),
        ({"a": [True, True], "b": [True, True]}, {"a", "b"}),
    ],
    ids=["one", "none", "hand-over", "two"],
)
def test_a_hand_over_between_two_looks_is_not_two_takers(
    nodes: dict[str, list[bool]], takers: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes are asked one after the other: who seems to be a second one is asked again."""
    world = LabProbe.__new__(LabProbe)
    found = [Node(name, iter(looks)) for name, looks in nodes.items()]
    monkeypatch.setattr(world, "machines", lambda: found)
    assert world.takers() == takers

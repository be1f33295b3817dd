"""The term of a leader: what entitles its node to the public address."""

from dataclasses import dataclass


@dataclass
class LeaderTerm:
    """The last time that this node became the leader, as a revision that only grows.

    It is that of the leader key; 0 until the node has led.
    """

    revision: int = 0

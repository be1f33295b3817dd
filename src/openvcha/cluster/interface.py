"""What the cluster needs of its store and of Patroni, so that tests can stand in for both."""

from collections.abc import Sequence
from typing import Any, Protocol

from openvcha.store.interface import GuardedStore, KeyValue, Member, Membership
from openvcha.store.patroni.rest import PatroniNode


class ClusterStore(GuardedStore, Membership, Protocol):
    """The store that the cluster itself carries: keys, and who votes on them."""

    async def several_and_members(
        self, names: Sequence[str]
    ) -> tuple[list[KeyValue | None], list[Member]]:
        """Read some keys as ``several`` does, and list the members then: one read with a quorum."""

    async def refresh_endpoints(self) -> tuple[str, ...]:
        """Use what the voters that have started announce, and return the endpoints."""


class PatroniAccess(Protocol):
    """The Patronis of the data nodes, by their HA addresses."""

    async def node(self, address: str) -> PatroniNode:
        """Ask one node for its state. Raises PatroniUnreachable."""

    async def wake(self, address: str) -> None:
        """Make the leader's loop run now. Raises PatroniUnreachable."""

    async def configure(self, address: str, change: dict[str, Any]) -> None:
        """Change Patroni's dynamic configuration (merged; None removes a key).

        Raises PatroniUnreachable.
        """

"""The interfaces of store and Patroni that the cluster uses; tests implement both."""

from collections.abc import Sequence
from typing import Any, Protocol

from openvcha.store.interface import KeyValue, Member, Membership, StoreWithAccounts
from openvcha.store.patroni.rest import PatroniNode


class ClusterStore(StoreWithAccounts, Membership, Protocol):
    """The store that runs on the cluster's own nodes: keys, and the members that vote."""

    async def get_many_and_members(
        self, names: Sequence[str]
    ) -> tuple[list[KeyValue | None], list[Member]]:
        """Read keys as ``get_many`` does, then list the members: one read with a quorum."""

    async def refresh_endpoints(self) -> tuple[str, ...]:
        """Use the client URLs of all started voters, and return the endpoints."""


class PatroniAccess(Protocol):
    """Patroni's REST API on the data nodes, by their HA addresses."""

    async def node(self, address: str) -> PatroniNode:
        """Return the state of one node. Raises PatroniUnreachable."""

    async def wake(self, address: str) -> None:
        """Run the leader's loop now. Raises PatroniUnreachable."""

    async def configure(self, address: str, change: dict[str, Any]) -> None:
        """Change Patroni's dynamic configuration (merged; None removes a key).

        Raises PatroniUnreachable.
        """

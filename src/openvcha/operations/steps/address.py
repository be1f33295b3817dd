"""No task succeeds before the active holds the public address: the step `address`."""

from openvcha.api.messages import message
from openvcha.api.structures import LocalizableMessage
from openvcha.cluster import patroni_client
from openvcha.cluster.findings.address import address_fault
from openvcha.operations.context import Services
from openvcha.operations.waiting import Awaited
from openvcha.store import keys
from openvcha.store.address_reports import AddressState
from openvcha.store.records import readable

ADDRESS_SECONDS = 60.0


class AwaitAddress(Awaited):
    """The step that waits until the active reports that it holds the public address.

    It changes nothing: what the steps before have done stays when it fails, and the task says why
    clients cannot connect.
    """

    name = "address"
    weight = 1
    cancelable = False
    seconds = ADDRESS_SECONDS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def unmet(self) -> LocalizableMessage | None:
        """Return why the address is not held, or that it is unknown; None when it is held."""
        services = self._services
        config = await services.observer.config()
        leader = await patroni_client.leader(services.store)
        active = config.node(leader) if leader else None
        if active is None:
            return message("progress.address.no.leader")
        found = await services.store.get(keys.address_report(active.member))
        reports = (state for _, state in readable([found] if found else [], AddressState))
        state = next(reports, None)
        if state is None:
            return message("progress.address.unknown", active.name)
        fault = address_fault(config, active, state)
        return fault.condition.error if fault else None

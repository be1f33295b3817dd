"""The registry: which function implements which operation of the table."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.operations import Operation
from openvcha.api.structures import (
    AuditFilterSpec,
    AuditInfo,
    EventFilterSpec,
    EventInfo,
    TaskFilterSpec,
    TaskGetSpec,
    TaskInfo,
)
from openvcha.cluster.preconditions import FAILOVER
from openvcha.events.audit import AuditLog
from openvcha.events.failover_events import refused
from openvcha.events.log import EventLog
from openvcha.events.state_diff import EventDraft
from openvcha.infrastructure import queries
from openvcha.infrastructure.inventory import Inventory
from openvcha.infrastructure.queries import LISTS
from openvcha.operations import deploy, failover, hosts, mode, reads, redeploy, undeploy
from openvcha.operations.caller import Caller
from openvcha.operations.context import Services
from openvcha.operations.joining import join, manual_join
from openvcha.operations.shown_inventory import shown_inventory
from openvcha.operations.steps import manual_join_steps
from openvcha.store.errors import StoreError
from openvcha.system.structlog_light import structlog
from openvcha.tasks.record import TaskRecord
from openvcha.tasks.steps import Step

Handler = Callable[..., Awaitable[Any]]
VCHA = "com.vmware.vcenter.vcha"

_log = structlog.get_logger(__name__)


class Handlers:
    """The dispatcher of a serving node: a function for every operation but those of sessions."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._handlers = handlers()

    async def invoke(
        self, operation: Operation, arguments: Mapping[str, Any], caller: Caller
    ) -> Any:
        """Execute an operation. Raises ApiError and the store's errors."""
        handler = self._handlers.get(operation.id)
        if handler is None:
            raise ApiError(ErrorType.UNSUPPORTED, message("operation.unsupported", operation.id))
        try:
            return await handler(self._services, caller, **arguments)
        except ApiError as error:
            if operation.id == FAILOVER and (event := refused(error.messages)):
                await self._tell(event)
            raise

    async def _tell(self, event: EventDraft) -> None:
        try:
            await EventLog(self._services.store).add(event)
        except StoreError as failure:
            _log.warning("cannot record a refused failover", reason=str(failure))


def handlers() -> Mapping[str, Handler]:
    """Return the function of each available operation, by the operation's full id."""
    return {
        f"{VCHA}.cluster.get": reads.get_cluster,
        f"{VCHA}.cluster.active.get": reads.get_active,
        f"{VCHA}.cluster.deploy": deploy.deploy,
        f"{VCHA}.cluster.failover": failover.fail_over,
        f"{VCHA}.cluster.undeploy": undeploy.undeploy,
        f"{VCHA}.cluster.mode.get": reads.get_mode,
        f"{VCHA}.cluster.mode.set": mode.set_mode,
        f"{VCHA}.cluster.deployment_type.get": reads.get_deployment_type,
        f"{VCHA}.operations.get": reads.get_operations,
        f"{VCHA}.cluster.passive.check": redeploy.check_passive,
        f"{VCHA}.cluster.passive.redeploy": redeploy.redeploy_passive,
        f"{VCHA}.cluster.witness.check": redeploy.check_witness,
        f"{VCHA}.cluster.witness.redeploy": redeploy.redeploy_witness,
        "org.openvcha.events.list": _list_events,
        "org.openvcha.audit.list": _list_audit,
        "org.openvcha.hosts.list": hosts.list_hosts,
        "org.openvcha.hosts.add": hosts.add_host,
        "org.openvcha.hosts.set": hosts.set_host,
        "org.openvcha.hosts.remove": hosts.remove_host,
        f"{manual_join_steps.JOINING}.issue": manual_join.issue_token,
        f"{manual_join_steps.JOINING}.list": manual_join.list_tokens,
        f"{manual_join_steps.JOINING}.revoke": manual_join.revoke_token,
        manual_join_steps.JOIN: join.join,
        "com.vmware.cis.tasks.get": _get_task,
        "com.vmware.cis.tasks.list": _list_tasks,
        "com.vmware.cis.tasks.cancel": _cancel_task,
        **{f"com.vmware.vcenter.{kind}.list": partial(_list_inventory, kind) for kind in LISTS},
    }


def plans(services: Services) -> Mapping[str, Callable[[TaskRecord], list[Step]]]:
    """Return the plan (task record to steps) of each kind of task, by the operation's full id."""
    return {
        f"{VCHA}.cluster.deploy": lambda record: list(deploy.deploy_plan(services, record)),
        f"{VCHA}.cluster.mode.set": lambda record: list(mode.mode_plan(services, record)),
        f"{VCHA}.cluster.failover": lambda record: list(failover.failover_plan(services, record)),
        f"{VCHA}.cluster.undeploy": lambda record: list(undeploy.undeploy_plan(services, record)),
        f"{VCHA}.cluster.passive.redeploy": lambda record: list(
            redeploy.passive_plan(services, record)
        ),
        f"{VCHA}.cluster.witness.redeploy": lambda record: list(
            redeploy.witness_plan(services, record)
        ),
        manual_join_steps.JOIN: lambda record: list(manual_join_steps.join_plan(services, record)),
    }


async def _get_task(
    services: Services, caller: Caller, task: str, spec: TaskGetSpec | None = None
) -> TaskInfo:
    del caller
    return await services.journal.get(task, spec)


async def _list_tasks(
    services: Services,
    caller: Caller,
    filter_spec: TaskFilterSpec | None = None,
    result_spec: TaskGetSpec | None = None,
) -> dict[str, TaskInfo]:
    del caller
    return await services.journal.list(filter_spec, result_spec)


async def _cancel_task(services: Services, caller: Caller, task: str) -> None:
    del caller
    await services.journal.request_cancel(task)


async def _list_events(
    services: Services,
    caller: Caller,
    filter: EventFilterSpec | None = None,  # noqa: A002 - its name in the API
) -> tuple[EventInfo, ...]:
    del caller
    return await EventLog(services.store).list(filter)


async def _list_audit(
    services: Services,
    caller: Caller,
    filter: AuditFilterSpec | None = None,  # noqa: A002 - as above
) -> tuple[AuditInfo, ...]:
    del caller
    return await AuditLog(services.store).list(filter)


async def _list_inventory(
    kind: str, services: Services, caller: Caller, **arguments: Any
) -> list[Any]:
    del caller
    # Only this list shows power states, for which all processes are scanned.
    inventory = await shown_inventory(services, power=kind == "VM")
    return queries.list_inventory(kind, inventory or Inventory(), arguments.get("filter"))

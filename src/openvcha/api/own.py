"""The rows of the table that vCenter has not: the official SDK knows nothing of these."""

from openvcha.api.errors import ErrorType
from openvcha.api.operation import Operation, Parameter, Privilege
from openvcha.api.structures import AuditFilterSpec, AuditInfo, EventFilterSpec, EventInfo

_ERRORS = (ErrorType.UNAUTHORIZED, ErrorType.ERROR, ErrorType.INVALID_ARGUMENT)

OWN = (
    Operation(
        service="org.openvcha.events",
        name="list",
        method="GET",
        path="/openvcha/events",
        summary="List what has happened to the cluster; as a stream, where that is asked for.",
        errors=_ERRORS,
        parameters=(Parameter("filter", EventFilterSpec | None, query=True),),
        output=tuple[EventInfo, ...],
        privilege=Privilege.SYSTEM_READ,
    ),
    Operation(
        service="org.openvcha.audit",
        name="list",
        method="GET",
        path="/openvcha/audit",
        summary="List who called what to change something, and what became of it.",
        errors=_ERRORS,
        parameters=(Parameter("filter", AuditFilterSpec | None, query=True),),
        output=tuple[AuditInfo, ...],
        privilege=Privilege.GLOBAL_VCSERVER,
    ),
)

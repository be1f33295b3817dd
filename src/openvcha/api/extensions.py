"""Operations that vCenter does not have and the official SDK does not know."""

from openvcha.api.errors import ErrorType
from openvcha.api.operation import Operation, Parameter, Privilege
from openvcha.api.structures import (
    AuditFilterSpec,
    AuditInfo,
    EventFilterSpec,
    EventInfo,
    JoinInfo,
    JoinSpec,
    JoinToken,
    JoinTokenSpec,
    JoinTokenSummary,
)

_ERRORS = (ErrorType.UNAUTHORIZED, ErrorType.ERROR, ErrorType.INVALID_ARGUMENT)

# How a node that an administrator creates joins a manual deployment.
JOINING_EXTENSIONS = (
    Operation(
        service="org.openvcha.joining",
        name="issue",
        method="POST",
        path="/openvcha/join-tokens",
        summary="Issue a token with which one node may join; it replaces the previous one.",
        errors=(
            ErrorType.UNAUTHORIZED,
            ErrorType.ERROR,
            ErrorType.NOT_ALLOWED_IN_CURRENT_STATE,
            ErrorType.RESOURCE_BUSY,
        ),
        parameters=(Parameter("spec", JoinTokenSpec),),
        output=JoinToken,
        writes=True,
        privilege=Privilege.GLOBAL_VCSERVER,
    ),
    Operation(
        service="org.openvcha.joining",
        name="list",
        method="GET",
        path="/openvcha/join-tokens",
        summary="List the join tokens: who issued them, and whether they are valid and used.",
        errors=(ErrorType.UNAUTHORIZED, ErrorType.ERROR),
        output=tuple[JoinTokenSummary, ...],
        privilege=Privilege.GLOBAL_VCSERVER,
    ),
    Operation(
        service="org.openvcha.joining",
        name="revoke",
        method="POST",
        path="/openvcha/join-tokens",
        action="revoke",
        summary="Revoke the join token of a role.",
        errors=(ErrorType.UNAUTHORIZED, ErrorType.ERROR, ErrorType.NOT_FOUND),
        parameters=(Parameter("spec", JoinTokenSpec),),
        privilege=Privilege.GLOBAL_VCSERVER,
        writes=True,
    ),
    Operation(
        service="org.openvcha.joining",
        name="join",
        method="POST",
        path="/openvcha/joins",
        summary="Join the cluster as a new node, with a token; starts a task.",
        errors=(
            ErrorType.INVALID_ARGUMENT,
            ErrorType.NOT_ALLOWED_IN_CURRENT_STATE,
            ErrorType.RESOURCE_BUSY,
            ErrorType.ERROR,
        ),
        parameters=(Parameter("spec", JoinSpec),),
        output=JoinInfo,
        writes=True,
        authenticated=False,
    ),
)

EXTENSIONS = (
    Operation(
        service="org.openvcha.events",
        name="list",
        method="GET",
        path="/openvcha/events",
        summary="List the cluster's events; as a stream on request.",
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
        summary="List the calls that change something: who made them, and their results.",
        errors=_ERRORS,
        parameters=(Parameter("filter", AuditFilterSpec | None, query=True),),
        output=tuple[AuditInfo, ...],
        privilege=Privilege.GLOBAL_VCSERVER,
    ),
    *JOINING_EXTENSIONS,
)

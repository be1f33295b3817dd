"""Audit entries of calls."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from openvcha.api.errors import ApiError
from openvcha.api.operations import Operation
from openvcha.api.structures import AuditInfo
from openvcha.events.audit import arguments_text

UNDATED = datetime(1970, 1, 1, tzinfo=UTC)


def audit_entry(
    *,
    operation: Operation,
    user: str | None,
    origin: str,
    protocol: str,
    arguments: Mapping[str, Any] | None,
    error: ApiError | None,
    task: str | None,
) -> AuditInfo:
    """Return the audit entry of a call, without id and time: the audit log sets them."""
    made = _entry(operation.id, arguments, error, user)
    return msgspec.structs.replace(made, origin=origin, protocol=protocol, task=task)


def local_entry(
    *, operation: str, user: str, arguments: Mapping[str, Any], error: ApiError | None
) -> AuditInfo:
    """Return the audit entry of an action by a local ``user`` of a node, bypassing the API."""
    return _entry(operation, arguments, error, user)


def _entry(
    operation: str, arguments: Mapping[str, Any] | None, error: ApiError | None, user: str | None
) -> AuditInfo:
    return AuditInfo(
        id="",
        time=UNDATED,
        user=user,
        origin="local",
        protocol="command",
        operation=operation,
        arguments=None if arguments is None else arguments_text(arguments),
        result=error.error_type.value if error else "OK",
        reason=error.messages[0] if error and error.messages else None,
    )

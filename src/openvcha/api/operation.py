"""An operation of the API: one row of the table of operations."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from openvcha.api.errors import ErrorType
from openvcha.api.structures.ids import TaskId
from openvcha.api.types import OptionalType, descriptor


class Privilege(StrEnum):
    """The privileges of vCenter that operations require."""

    SYSTEM_READ = "System.Read"
    GLOBAL_VCSERVER = "Global.VCServer"


class SessionAction(StrEnum):
    """What an operation does with the caller's session; the value is the operation's name."""

    LOG_IN = "create"
    SHOW = "get"
    LOG_OUT = "delete"


@dataclass(frozen=True)
class Parameter:
    """One parameter; with `query` the fields of its structure are query parameters on REST."""

    name: str
    type: Any
    query: bool = False

    @property
    def optional(self) -> bool:
        """Return whether the parameter may be unset."""
        return isinstance(descriptor(self.type), OptionalType)


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """One operation, for all protocols; there is one object per operation.

    `output` is the Python type of the result (of a task: the task's result); None: no result.
    `privilege` None: any authenticated user may call it. `available` False: UNSUPPORTED.
    `authenticated` False: no session is needed; the arguments decide what the caller may do.
    `writes`: it makes changes without being a task. `session` is set for the session's operations.
    """

    service: str
    name: str
    method: str
    path: str
    summary: str
    errors: tuple[ErrorType, ...]
    action: str | None = None
    task: bool = False
    parameters: tuple[Parameter, ...] = ()
    output: Any = None
    status: int = 200
    privilege: Privilege | None = None
    authenticated: bool = True
    available: bool = True
    writes: bool = False
    session: SessionAction | None = None

    @cached_property
    def id(self) -> str:
        """Return the operation's full id, such as com.vmware.vcenter.vcha.cluster.get."""
        return f"{self.service}.{self.name}"

    @property
    def changes(self) -> bool:
        """Return whether a call is meant to make a change, and so is audited."""
        return self.task or self.writes

    @property
    def wire_name(self) -> str:
        """Return the operation's name in vAPI."""
        return f"{self.name}$task" if self.task else self.name

    @property
    def reply(self) -> Any:
        """Return the Python type of the call's own result; for a task, that is the task's id."""
        return TaskId if self.task else self.output

    @cached_property
    def path_parameters(self) -> tuple[Parameter, ...]:
        """Return the parameters that are part of the path."""
        names = {field for _, field, _, _ in string.Formatter().parse(self.path) if field}
        return tuple(parameter for parameter in self.parameters if parameter.name in names)

    @cached_property
    def query_parameters(self) -> tuple[Parameter, ...]:
        """Return the parameters whose fields are sent in the query."""
        return tuple(parameter for parameter in self.parameters if parameter.query)

    @cached_property
    def body_parameters(self) -> tuple[Parameter, ...]:
        """Return all other parameters: they are sent in the body."""
        elsewhere = self.path_parameters + self.query_parameters
        return tuple(parameter for parameter in self.parameters if parameter not in elsewhere)

    @cached_property
    def body_is_spec(self) -> bool:
        """Return whether the body on /api is the single parameter `spec` itself, unwrapped."""
        return [parameter.name for parameter in self.body_parameters] == ["spec"]


def required_privilege(operation: Operation, arguments: Mapping[str, Any]) -> Privilege | None:
    """Return the privilege that this call needs: a partial `get` needs less than a full one."""
    if arguments.get("partial"):
        return Privilege.SYSTEM_READ
    return operation.privilege

"""What a row of the table of operations is."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from openvcha.api.errors import ErrorType
from openvcha.api.structures.ids import TaskId
from openvcha.api.types import OptionalType, descriptor

#: Names of operations that change something without being tasks; all others only look.
CHANGING = frozenset({"create", "delete", "cancel", "issue", "join"})


class Privilege(StrEnum):
    SYSTEM_READ = "System.Read"
    GLOBAL_VCSERVER = "Global.VCServer"


@dataclass(frozen=True)
class Parameter:
    """One parameter; with `query` the fields of its structure are query parameters on REST."""

    name: str
    type: Any
    query: bool = False

    @property
    def optional(self) -> bool:
        return isinstance(descriptor(self.type), OptionalType)


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """One operation in all protocols; there is one object for each.

    `output` is the Python type of the result, None for none; of a task's result for a task.
    `privilege` None: whoever is authenticated may call it. `available` False: UNSUPPORTED.
    `authenticated` False: no session is needed, what the caller may is decided by the arguments.
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

    @cached_property
    def id(self) -> str:
        return f"{self.service}.{self.name}"

    @property
    def changes(self) -> bool:
        """Whether a call is to change something, so that it is audited."""
        return self.task or self.name in CHANGING

    @property
    def wire_name(self) -> str:
        """The operation's name in vAPI."""
        return f"{self.name}$task" if self.task else self.name

    @property
    def reply(self) -> Any:
        """The Python type of what the call itself answers; for a task the task's id."""
        return TaskId if self.task else self.output

    @cached_property
    def path_parameters(self) -> tuple[Parameter, ...]:
        names = {field for _, field, _, _ in string.Formatter().parse(self.path) if field}
        return tuple(parameter for parameter in self.parameters if parameter.name in names)

    @cached_property
    def query_parameters(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.parameters if parameter.query)

    @cached_property
    def body_parameters(self) -> tuple[Parameter, ...]:
        elsewhere = self.path_parameters + self.query_parameters
        return tuple(parameter for parameter in self.parameters if parameter not in elsewhere)

    @cached_property
    def body_is_spec(self) -> bool:
        """On /api the body is the single parameter `spec` itself, not an object of parameters."""
        return [parameter.name for parameter in self.body_parameters] == ["spec"]


def required_privilege(operation: Operation, arguments: Mapping[str, Any]) -> Privilege | None:
    """The privilege that this call needs: a partial `get` needs less than a full one."""
    if arguments.get("partial"):
        return Privilege.SYSTEM_READ
    return operation.privilege

"""Who calls, and what answers a call: the seam between the protocols and the operations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from openvcha.api.operations import Operation, Privilege


@dataclass(frozen=True)
class Caller:
    """An authenticated caller.

    `session` is the SHA-256 of the session's token (the token itself is nowhere kept), None when
    the call came with a name and a password. `origin` is the network address it came from.
    """

    user: str
    privileges: frozenset[Privilege]
    session: bytes | None
    origin: str


class Dispatcher(Protocol):
    """What does the work of every operation, except that of `com.vmware.cis.session`."""

    async def invoke(
        self, operation: Operation, arguments: Mapping[str, Any], caller: Caller
    ) -> Any:
        """Run one operation on decoded arguments (by parameter name; unset ones may be absent).

        Gives a value of `operation.output`; for a task operation the identifier of the task.
        Raises ApiError, or any error of the store, which the protocols translate.
        """

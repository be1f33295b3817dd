"""The caller of an operation, and the dispatcher: the seam between protocols and operations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from openvcha.api.operations import Operation, Privilege


@dataclass(frozen=True)
class Caller:
    """An authenticated caller.

    `session` is the SHA-256 of the session's token (the token itself is never stored), None when
    the call used a name and a password. `origin` is the network address that it came from.
    `generation` is that of the user's password; empty for an anonymous caller.
    """

    user: str
    privileges: frozenset[Privilege]
    session: bytes | None
    origin: str
    generation: str = ""


class Dispatcher(Protocol):
    """Executes every operation, except those of `com.vmware.cis.session`."""

    async def invoke(
        self, operation: Operation, arguments: Mapping[str, Any], caller: Caller
    ) -> Any:
        """Execute an operation on decoded arguments (by parameter name; unset ones may be missing).

        Returns a value of `operation.output`; for a task operation, the id of the task.
        Raises ApiError, or any error of the store, which the protocols translate.
        """

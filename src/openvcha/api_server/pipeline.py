"""The path of every call, whatever its protocol.

Authenticate, authorize, decode, execute; any failure becomes a standard error.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from openvcha.api.errors import ApiError, ErrorType, fail
from openvcha.api.file_errors import file_error
from openvcha.api.messages import message
from openvcha.api.operations import Operation, Privilege, SessionAction, required_privilege
from openvcha.api_server import redaction
from openvcha.api_server.auditing import audit_entry
from openvcha.api_server.auth.credentials import Authenticator, Credentials, Principal
from openvcha.api_server.auth.sessions import Sessions, unauthenticated
from openvcha.api_server.auth.users import Users
from openvcha.api_server.call_log import CallLog
from openvcha.api_server.concurrency import ConcurrencyLimits
from openvcha.api_server.connection_limits import ClientConnection
from openvcha.api_server.http import server_stopping
from openvcha.events.audit import AuditLog
from openvcha.operations.caller import Dispatcher
from openvcha.store.call_reads import reads_of_call
from openvcha.store.errors import (
    OutcomeUnknown,
    RecordUnreadable,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from openvcha.system.structlog_light import structlog

STORE_FULL_RETRY_SECONDS = 60
"""The node reclaims space in a full store itself, or an operator must."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """An incoming call; `read` and `decode` run only after authentication.

    A body is read before the call takes a slot, so that slow senders hold none, and decoded after.
    """

    protocol: str
    operation: Operation
    credentials: Credentials
    origin: str
    read: Callable[[], Awaitable[bytes]]
    decode: Callable[[bytes], Awaitable[Arguments]]
    encode: Callable[[Operation, Any], bytes]
    """Encodes the result for the protocol."""
    client_id: str | None = None
    """The client's own id of the call, for the log."""
    client: ClientConnection | None = None
    """The connection of the call."""


@dataclass(frozen=True)
class CallResult:
    """The result of a call: `body` is the encoded value, or `error` is set."""

    body: bytes = b""
    error: ApiError | None = None
    token: str | None = None
    """The token of the session that the call created."""


class Pipeline:
    """The handler of calls, in one of ``workers`` processes.

    ``operation_id`` generates the ids of internal errors, for the log.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        users: Users,
        sessions: Sessions,
        audit: AuditLog,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        operation_id: Callable[[], str] = lambda: secrets.token_hex(8),
        workers: int = 1,
    ) -> None:
        self._dispatcher = dispatcher
        self._authenticator = Authenticator(users, sessions)
        self._in_flight = ConcurrencyLimits(workers)
        self._sessions = sessions
        self._audit = audit
        self._monotonic = monotonic
        self._operation_id = operation_id
        self._log = structlog.get_logger("openvcha.api_server").bind()
        self._calls = CallLog(monotonic)

    async def handle(self, call: Call) -> CallResult:
        """Execute a call; never raises."""
        running = _CallState(call)
        begun = self._monotonic()
        try:
            with reads_of_call(begun):
                answer = await self._execute(running)
        except asyncio.CancelledError:
            # Only the server cancels, at the deadline of its stop: tell the client.
            answer = CallResult(error=server_stopping())
        except Exception as failure:  # noqa: BLE001 - any failure becomes a response
            answer = CallResult(error=self._error(failure, running))
        self._log_call(running, answer, self._monotonic() - begun)
        if call.operation.changes:
            await self._audit_call(running, answer)
        return answer

    async def authorize(self, call: Call) -> tuple[Principal, Arguments]:
        """Authenticate and authorize a call that is handled elsewhere.

        Return the caller and the arguments. Raises ApiError.
        """
        running = _CallState(call)
        try:
            principal = await self._authenticate(running)
            return principal, await self._decode(running, principal, await call.read())
        except Exception as failure:
            error = self._error(failure, running)
            self._log_call(running, CallResult(error=error), 0.0)
            raise error from failure

    async def has_session(self, credentials: Credentials, origin: str) -> bool:
        """Return whether the token belongs to a session. Raises ApiError if that is unknown."""
        if credentials.token is None:
            return False
        try:
            async with self._in_flight.looking_up(origin):
                await self._sessions.resolve(credentials.token)
        except ApiError as error:
            if error.error_type is ErrorType.UNAUTHENTICATED:
                return False
            raise
        except StoreUnavailable as failure:
            raise self._store_unavailable(failure) from failure
        except StoreError as failure:
            raise self.internal_error(failure, tuple(credentials.secrets())) from failure
        return True

    def error(self, failure: Exception, call: Call) -> ApiError:
        """Return the caller's error for a failure; log internal ones."""
        return self._error(failure, _CallState(call))

    async def _execute(self, running: "_CallState") -> CallResult:
        call, operation = running.call, running.call.operation
        principal = await self._authenticate(running)
        body = await call.read()
        async with self._in_flight.executing(principal):
            arguments = await self._decode(running, principal, body)
            if not operation.available:
                fail(ErrorType.UNSUPPORTED, message("operation.unsupported", operation.id))
            if operation.session is not None:
                return await self._session(call, principal)
            value = await self._dispatcher.invoke(operation, arguments, principal.caller)
            running.task = value if operation.task else None
            return CallResult(call.encode(operation, value))

    async def _authenticate(self, running: "_CallState") -> Principal:
        call, operation = running.call, running.call.operation
        principal = await self._authenticator.authenticate(
            operation, call.credentials, call.origin, self._in_flight.looking_up(call.origin)
        )
        running.principal = principal
        if principal.user is not None and call.client is not None:
            call.client.mark_recognized()
        _authorize(principal, minimum_privilege(operation))
        return principal

    async def _decode(self, running: "_CallState", principal: Principal, body: bytes) -> Arguments:
        arguments = running.arguments = await running.call.decode(body)
        _authorize(principal, required_privilege(running.call.operation, arguments))
        return arguments

    async def _session(self, call: Call, principal: Principal) -> CallResult:
        if call.operation.session is SessionAction.LOG_IN:
            if principal.user is None:
                raise unauthenticated()
            token = await self._sessions.create(principal.user)
            return CallResult(call.encode(call.operation, token), token=token.reveal())
        session = principal.caller.session
        if session is None:
            raise unauthenticated()
        if call.operation.session is SessionAction.SHOW:
            return CallResult(call.encode(call.operation, await self._sessions.get(session)))
        await self._sessions.delete(session)
        return CallResult(call.encode(call.operation, None))

    def _error(self, failure: Exception, running: "_CallState") -> ApiError:
        if isinstance(failure, ApiError):
            return failure
        if isinstance(failure, StoreUnavailable):
            return self._store_unavailable(failure)
        if isinstance(failure, StoreError):
            return self._store_refused(failure, running.call.operation)
        if running.principal is not None and (refused := file_error(failure)):
            return self._file_refused(failure, refused, running.call.operation)
        return self.internal_error(failure, running.secrets(), operation=running.call.operation.id)

    def _store_unavailable(self, failure: StoreUnavailable) -> ApiError:
        self._log.warning("store unavailable", reason=str(failure))
        name, after = "store.unavailable", None
        if isinstance(failure, OutcomeUnknown):
            name = "store.outcome.unknown"
        elif isinstance(failure, StoreFull):
            name, after = "store.is.full", STORE_FULL_RETRY_SECONDS
        return ApiError(ErrorType.SERVICE_UNAVAILABLE, message(name), retry_after=after)

    def _store_refused(self, failure: StoreError, operation: Operation) -> ApiError:
        """Return the error that the operation declares for an unavailable or unreadable store."""
        operation_id = self._operation_id()
        self._log.error(
            "store refused", operation_id=operation_id, operation=operation.id, reason=str(failure)
        )
        # The reason may quote the record, so it goes only to the log.
        text = (
            message("store.unreadable", ascii(failure.key)[1:-1], operation_id)
            if isinstance(failure, RecordUnreadable)
            else message("store.refused", failure)
        )
        any_other = ErrorType.ERROR in operation.errors
        return ApiError(ErrorType.ERROR if any_other else ErrorType.SERVICE_UNAVAILABLE, text)

    def _file_refused(
        self, failure: Exception, refused: ApiError, operation: Operation
    ) -> ApiError:
        """Return the error for an unusable file; only authenticated callers see its path."""
        self._log.error("file refused", operation=operation.id, reason=str(failure))
        if refused.error_type in operation.errors:
            return refused
        any_other = ErrorType.ERROR in operation.errors
        kind = ErrorType.ERROR if any_other else ErrorType.SERVICE_UNAVAILABLE
        return ApiError(kind, *refused.messages)

    def internal_error(
        self, failure: BaseException, hidden: tuple[Any, ...] | None, **where: str
    ) -> ApiError:
        """Log an internal failure without the secrets, and return the caller's error."""
        operation_id = self._operation_id()
        self._log.error(
            "internal error",
            operation_id=operation_id,
            failure=redaction.describe(failure, hidden),
            **where,
        )
        return ApiError(ErrorType.INTERNAL_SERVER_ERROR, message("internal.error", operation_id))

    def _log_call(self, running: "_CallState", answer: CallResult, seconds: float) -> None:
        call, principal, error = running.call, running.principal, answer.error
        self._calls.record(
            protocol=call.protocol,
            operation=call.operation.id,
            user=principal.caller.user if principal else None,
            origin=call.origin,
            result=error.error_type.value if error else "OK",
            stranger=principal is None or principal.user is None,
            changes=call.operation.privilege is Privilege.GLOBAL_VCSERVER,
            milliseconds=round(seconds * 1000, 1),
            client_id=call.client_id,
        )

    async def _audit_call(self, running: "_CallState", answer: CallResult) -> None:
        call, principal = running.call, running.principal
        # Operations without a session are anonymous until their own check has passed.
        stranger = principal is None or (principal.user is None and answer.error is not None)
        entry = audit_entry(
            operation=call.operation,
            user=None if stranger or principal is None else principal.caller.user,
            origin=call.origin,
            protocol=call.protocol,
            arguments=running.arguments,
            error=answer.error,
            task=running.task,
        )
        access = call.operation.session is not None or principal is None or principal.user is None
        await self._audit.record(entry, access=access)


@dataclass
class _CallState:
    """The progress of a running call."""

    call: Call
    principal: Principal | None = None
    arguments: Arguments | None = None
    task: str | None = None
    """The task that the call started."""

    def secrets(self) -> tuple[Any, ...] | None:
        """Return the secrets of the request for redaction; None if they are unknown."""
        if self.principal is not None and self.arguments is None:
            return None  # it failed while reading the body, so its secrets are unknown
        return (
            *self.call.credentials.secrets(),
            *redaction.secrets_in(self.arguments or {}),
        )


async def no_body() -> bytes:
    """Return the body of a call that has none, or whose body was read with its envelope."""
    return b""


@cache
def minimum_privilege(operation: Operation) -> Privilege | None:
    """Return the privilege that every call of it needs, for a check before reading arguments."""
    return required_privilege(operation, {each.name: True for each in operation.parameters})


def _authorize(principal: Principal, privilege: Privilege | None) -> None:
    if privilege is not None and privilege not in principal.caller.privileges:
        fail(
            ErrorType.UNAUTHORIZED,
            message("vapi.security.authorization.invalid", privilege.value),
        )

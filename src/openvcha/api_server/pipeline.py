"""The one way that every call goes, whatever protocol it came by.

authenticate, authorize, decode, carry out; whatever goes wrong becomes a standard error.
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
from openvcha.api.operations import Operation, Privilege, required_privilege
from openvcha.api_server import redaction
from openvcha.api_server.auditing import audit_entry
from openvcha.api_server.auth.credentials import SESSION_SERVICE, Credentials, Gate, Visitor
from openvcha.api_server.auth.sessions import Sessions, unauthenticated
from openvcha.api_server.auth.users import Users
from openvcha.api_server.connection_limits import Guest
from openvcha.api_server.http import stopping
from openvcha.api_server.inflight import InFlight
from openvcha.events.audit import AuditLog
from openvcha.operations.caller import Dispatcher
from openvcha.store.errors import (
    OutcomeUnknown,
    RecordUnreadable,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from openvcha.store.structlog_light import structlog

FULL_SECONDS = 60
"""A store that is full is given room by the node itself, or waits for a person."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One call on its way in; `decode` reads its arguments, and is not run before it may be."""

    protocol: str
    operation: Operation
    credentials: Credentials
    origin: str
    decode: Callable[[], Awaitable[Arguments]]
    encode: Callable[[Operation, Any], bytes]
    """Writes the result as the protocol answers it."""
    client_id: str | None = None
    """What the client itself calls this call, for the log."""
    guest: Guest | None = None
    """The connection that it came by."""


@dataclass(frozen=True)
class Answer:
    """What became of a call: `body` is the written result, or `error` is set."""

    body: bytes = b""
    error: ApiError | None = None
    token: str | None = None
    """The token of the session that the call has begun."""


class Pipeline:
    """Carries calls out. ``operation_id`` makes the ids that internal errors are found by."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        users: Users,
        sessions: Sessions,
        audit: AuditLog,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        operation_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._dispatcher = dispatcher
        self._gate = Gate(users, sessions)
        self._in_flight = InFlight()
        self._sessions = sessions
        self._audit = audit
        self._monotonic = monotonic
        self._operation_id = operation_id
        # Bound once: it would be made anew for each line, also for those that nobody writes.
        self._log = structlog.get_logger("openvcha.api_server").bind()

    async def answer(self, call: Call) -> Answer:
        """Carry a call out; never raises."""
        running = _Running(call)
        begun = self._monotonic()
        try:
            answer = await self._carry_out(running)
        except asyncio.CancelledError:
            # Only the server cancels, at the deadline of its stop: the client is to know.
            answer = Answer(error=stopping())
        except Exception as failure:  # noqa: BLE001 - the last line: whatever it is becomes an answer
            answer = Answer(error=self._error(failure, running))
        self._record(running, answer, self._monotonic() - begun)
        if call.operation.changes:
            await self._keep(running, answer)
        return answer

    async def admit(self, call: Call) -> tuple[Visitor, Arguments]:
        """Let somebody in who is answered elsewhere. Return who, and the arguments.

        Raises ApiError.
        """
        running = _Running(call)
        try:
            return await self._enter(running)
        except Exception as failure:
            error = self._error(failure, running)
            self._record(running, Answer(error=error), 0.0)
            raise error from failure

    async def knows(self, credentials: Credentials, origin: str) -> bool:
        """Return whether the token is that of a session. Raises ApiError where nobody can tell."""
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
            raise self._store_lost(failure) from failure
        except StoreError as failure:
            raise self.internal(failure, tuple(credentials.secrets())) from failure
        return True

    def error(self, failure: Exception, call: Call) -> ApiError:
        """Return what a caller is told of a failure; logs it when it is our own."""
        return self._error(failure, _Running(call))

    async def _carry_out(self, running: "_Running") -> Answer:
        call, operation = running.call, running.call.operation
        visitor, arguments = await self._enter(running)
        if not operation.available:
            fail(ErrorType.UNSUPPORTED, message("operation.unsupported", operation.id))
        async with self._in_flight.working(visitor):
            if operation.service == SESSION_SERVICE:
                return await self._session(call, visitor)
            value = await self._dispatcher.invoke(operation, arguments, visitor.caller)
            running.task = value if operation.task else None
            return Answer(call.encode(operation, value))

    async def _enter(self, running: "_Running") -> tuple[Visitor, Arguments]:
        call, operation = running.call, running.call.operation
        async with self._in_flight.entering(operation, call.credentials, call.origin):
            visitor = await self._gate.admit(operation, call.credentials, call.origin)
        running.visitor = visitor
        if visitor.user is not None and call.guest is not None:
            call.guest.welcome()
        _authorize(visitor, least_privilege(operation))
        arguments = running.arguments = await call.decode()
        _authorize(visitor, required_privilege(operation, arguments))
        return visitor, arguments

    async def _session(self, call: Call, visitor: Visitor) -> Answer:
        if call.operation.name == "create":
            if visitor.user is None:
                raise unauthenticated()
            token = await self._sessions.create(visitor.user)
            return Answer(call.encode(call.operation, token), token=token.reveal())
        session = visitor.caller.session
        if session is None:
            raise unauthenticated()
        if call.operation.name == "get":
            return Answer(call.encode(call.operation, await self._sessions.get(session)))
        await self._sessions.delete(session)
        return Answer(call.encode(call.operation, None))

    def _error(self, failure: Exception, running: "_Running") -> ApiError:
        if isinstance(failure, ApiError):
            return failure
        if isinstance(failure, StoreUnavailable):
            return self._store_lost(failure)
        if isinstance(failure, StoreError):
            return self._store_refused(failure, running.call.operation)
        if running.visitor is not None and (refused := file_error(failure)):
            return self._file_refused(failure, refused, running.call.operation)
        return self.internal(failure, running.secrets(), operation=running.call.operation.id)

    def _store_lost(self, failure: StoreUnavailable) -> ApiError:
        self._log.warning("store unavailable", reason=str(failure))
        name, after = "store.unavailable", None
        if isinstance(failure, OutcomeUnknown):
            name = "store.outcome.unknown"
        elif isinstance(failure, StoreFull):
            name, after = "store.is.full", FULL_SECONDS
        return ApiError(ErrorType.SERVICE_UNAVAILABLE, message(name), retry_after=after)

    def _store_refused(self, failure: StoreError, operation: Operation) -> ApiError:
        """Make the error that the operation declares for what is nobody's fault here."""
        operation_id = self._operation_id()
        self._log.error(
            "store refused", operation_id=operation_id, operation=operation.id, reason=str(failure)
        )
        # What is wrong with a record may quote it: that is for the log.
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
        """Return what a task would of a file of ours; never to a stranger, since it is a path."""
        self._log.error("file refused", operation=operation.id, reason=str(failure))
        if refused.error_type in operation.errors:
            return refused
        any_other = ErrorType.ERROR in operation.errors
        kind = ErrorType.ERROR if any_other else ErrorType.SERVICE_UNAVAILABLE
        return ApiError(kind, *refused.messages)

    def internal(
        self, failure: BaseException, hidden: tuple[Any, ...] | None, **where: str
    ) -> ApiError:
        """Log a failure of our own without the secrets, and give what the caller is told."""
        operation_id = self._operation_id()
        self._log.error(
            "internal error",
            operation_id=operation_id,
            failure=redaction.describe(failure, hidden),
            **where,
        )
        return ApiError(ErrorType.INTERNAL_SERVER_ERROR, message("internal.error", operation_id))

    def _record(self, running: "_Running", answer: Answer, seconds: float) -> None:
        call, visitor, error = running.call, running.visitor, answer.error
        changes = call.operation.privilege is Privilege.GLOBAL_VCSERVER or error is not None
        write = self._log.info if changes else self._log.debug
        write(
            "call",
            protocol=call.protocol,
            operation=call.operation.id,
            user=visitor.caller.user if visitor else None,
            origin=call.origin,
            result=error.error_type.value if error else "OK",
            milliseconds=round(seconds * 1000, 1),
            client_id=call.client_id,
        )

    async def _keep(self, running: "_Running", answer: Answer) -> None:
        call, visitor = running.call, running.visitor
        # Who needs no session is a stranger as long as nothing has let him in.
        stranger = visitor is None or (visitor.user is None and answer.error is not None)
        entry = audit_entry(
            operation=call.operation,
            user=None if stranger or visitor is None else visitor.caller.user,
            origin=call.origin,
            protocol=call.protocol,
            arguments=running.arguments,
            error=answer.error,
            task=running.task,
        )
        logs_in = call.operation.service == SESSION_SERVICE
        access = logs_in or visitor is None or visitor.user is None
        await self._audit.record(entry, access=access)


@dataclass
class _Running:
    """What is known of a call so far."""

    call: Call
    visitor: Visitor | None = None
    arguments: Arguments | None = None
    task: str | None = None
    """The task that it has begun."""

    def secrets(self) -> tuple[Any, ...] | None:
        if self.visitor is not None and self.arguments is None:
            return None  # it failed while the body was read: nobody knows what is in there
        return (
            *self.call.credentials.secrets(),
            *redaction.secrets_in(self.arguments or {}),
        )


@cache
def least_privilege(operation: Operation) -> Privilege | None:
    """Return the privilege without which no arguments help; checked before they are read."""
    return required_privilege(operation, {each.name: True for each in operation.parameters})


def _authorize(visitor: Visitor, privilege: Privilege | None) -> None:
    if privilege is not None and privilege not in visitor.caller.privileges:
        fail(
            ErrorType.UNAUTHORIZED,
            message("vapi.security.authorization.invalid", privilege.value),
        )

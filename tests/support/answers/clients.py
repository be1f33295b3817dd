"""The three ways to call an operation, with one interface for tests: REST, legacy REST, the SDK.

Arguments are plain JSON, by parameter name.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
from tests.support.answers.stage import ServedCluster
from tests.support.edge import ADMINISTRATOR, PASSWORD
from tests.support.waiting import until

from openvcha.api.codec.decode import decode_error_rest, decode_rest
from openvcha.api.errors import LEGACY_STATUS, STATUS, ApiError, ErrorType
from openvcha.api.operations import OPERATIONS, Operation, by_id
from openvcha.api.structures import TaskInfo
from openvcha.api_server.routes import LEGACY_SESSION

# The SDK reads its own messages in a way that Python has deprecated; that warning is not ours.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from com.vmware import cis_client, vcenter_client
    from com.vmware.vapi.std import errors_client
    from com.vmware.vcenter import vcha_client
    from com.vmware.vcenter.vcha import cluster_client
    from vmware.vapi.bindings import type as bound
    from vmware.vapi.lib.connect import get_requests_connector
    from vmware.vapi.security.session import create_session_security_context
    from vmware.vapi.security.user_password import create_user_password_security_context
    from vmware.vapi.stdlib.client.factories import StubConfigurationFactory

SESSION = "com.vmware.cis.session"
OWN = "org.openvcha."
HEADER = "vmware-api-session-id"
UNFINISHED = {"PENDING", "RUNNING"}
TASK_SECONDS = 60.0
POLL_SECONDS = 0.02

#: vCenter's own errors; the official SDK has no bindings for ours.
OF_THE_SDK = [each for each in OPERATIONS if not each.service.startswith(OWN)]
SDK_SERVICES = {
    cls._VAPI_SERVICE_ID: cls
    for module in (cis_client, vcenter_client, vcha_client, cluster_client)
    for cls in vars(module).values()
    if hasattr(cls, "_VAPI_SERVICE_ID")
}


@dataclass(frozen=True)
class Identification:
    """The caller's identity: a session token, a name and password, or none."""

    token: str = ""
    user: str = ""
    password: str = PASSWORD


class Refused(Exception):  # noqa: N818 - says what is
    """What a client got instead of a result. ``status`` is None where the protocol has none."""

    def __init__(self, error: ApiError, status: int | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.status = status


class Client(Protocol):
    """One of the three ways to call an operation."""

    def call(
        self,
        stage: ServedCluster,
        operation: Operation,
        arguments: dict[str, Any],
        who: Identification,
    ) -> Any:
        """Return the result. Raise Refused."""


@dataclass(frozen=True)
class RestClient:
    """A client of /api or /rest, as any HTTP library speaks it."""

    prefix: str

    @property
    def legacy(self) -> bool:
        """Return whether it calls the legacy REST API."""
        return self.prefix == "/rest"

    @property
    def statuses(self) -> Mapping[ErrorType, int]:
        """Return the HTTP status of each error type."""
        return LEGACY_STATUS if self.legacy else STATUS

    def call(
        self,
        stage: ServedCluster,
        operation: Operation,
        arguments: dict[str, Any],
        who: Identification,
    ) -> Any:
        """Return the result as our structures. Raise Refused."""
        reply = stage.http.request(
            operation.method,
            self.prefix + self._path(operation, arguments),
            params=self._query(operation, arguments),
            json=self._body(operation, arguments),
            headers={HEADER: who.token} if who.token else {},
            auth=(who.user, who.password) if who.user else None,
        )
        if reply.status_code >= 400:
            raise Refused(self._error(reply.json()), reply.status_code)
        assert reply.status_code == (200 if self.legacy else operation.status)
        return self._result(operation, reply)

    def _path(self, operation: Operation, arguments: dict[str, Any]) -> str:
        if self.legacy and operation.service == SESSION:
            return LEGACY_SESSION
        return operation.path.format(**arguments)

    def _query(self, operation: Operation, arguments: dict[str, Any]) -> list[tuple[str, Any]]:
        query: list[tuple[str, Any]] = [("action", operation.action)] if operation.action else []
        query += [("vmw-task", "true")] if operation.task else []
        for parameter in operation.query_parameters:
            for name, value in (arguments.get(parameter.name) or {}).items():
                values = value if isinstance(value, list) else [value]
                query += [(name, str(each)) for each in values]
        return query

    def _body(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        names = {each.name for each in operation.body_parameters}
        body = {name: value for name, value in arguments.items() if name in names}
        return body.get("spec") if operation.body_is_spec and not self.legacy else body or None

    def _result(self, operation: Operation, reply: httpx2.Response) -> Any:
        if not reply.content:
            return None
        return decode_rest(operation.reply, reply.json()["value"] if self.legacy else reply.json())

    def _error(self, body: Any) -> ApiError:
        if not self.legacy:
            return decode_error_rest(body)
        error = decode_error_rest(body["value"])
        assert body["type"] == error.error_type.structure
        return error


class SdkClient:
    """A client with the unmodified official SDK; what it raises must be the class of the error."""

    def call(
        self,
        stage: ServedCluster,
        operation: Operation,
        arguments: dict[str, Any],
        who: Identification,
    ) -> Any:
        """Return the result as the SDK's own structures. Raise Refused."""
        service = SDK_SERVICES[operation.service](sdk_configuration(stage, who))
        known = service._api_interface._operations[operation.wire_name]["input_type"]
        given = {name: theirs(known.get_field(name), value) for name, value in arguments.items()}
        method = f"{operation.name}_task" if operation.task else operation.name
        try:
            return getattr(service, method)(**given)
        except errors_client.Error as error:
            raise Refused(ours(error), None) from error


API, LEGACY, SDK = RestClient("/api"), RestClient("/rest"), SdkClient()
CLIENTS: Mapping[str, Client] = {"rest": API, "legacy": LEGACY, "sdk": SDK}


def sdk_configuration(stage: ServedCluster, who: Identification) -> Any:
    """Return the configuration for the SDK's services."""
    url = f"https://{stage.where}/api"
    connector = get_requests_connector(stage.requests, url=url, msg_protocol="json")
    if who.token:
        connector.set_security_context(create_session_security_context(who.token))
    elif who.user:
        context = create_user_password_security_context(who.user, who.password)
        connector.set_security_context(context)
    return StubConfigurationFactory.new_std_configuration(connector)


def theirs(kind: Any, value: Any) -> Any:
    """Convert plain JSON to what the SDK's bindings take."""
    while isinstance(kind, bound.ReferenceType | bound.OptionalType):
        reference = isinstance(kind, bound.ReferenceType)
        kind = kind.resolved_type if reference else kind.element_type
    match kind:
        case bound.StructType():
            fields = {name: theirs(kind.get_field(name), each) for name, each in value.items()}
            return kind.binding_class(**fields)
        case bound.EnumType():
            return kind.binding_class(value)
        case bound.SetType():
            return {theirs(kind.element_type, each) for each in value}
        case bound.ListType():
            return [theirs(kind.element_type, each) for each in value]
    return value


def class_of(kind: ErrorType) -> Any:
    """Return the SDK's class of an error."""
    return getattr(errors_client, "".join(word.capitalize() for word in kind.value.split("_")))


def error_of(info: Any, kind: ErrorType) -> ApiError:
    """Return the error of a failed task, which must be of this kind."""
    error = (
        info.error if isinstance(info, TaskInfo) else ours(info.error.convert_to(class_of(kind)))
    )
    assert isinstance(error, ApiError)
    return error


def ours(error: Any) -> ApiError:
    """Convert what the SDK raised; its class must be that of the error's type."""
    kind = ErrorType(str(error.error_type))
    assert type(error) is class_of(kind)
    read = [
        {"id": each.id, "default_message": each.default_message, "args": each.args}
        for each in error.messages
    ]
    data = None
    if isinstance(error, errors_client.UnverifiedPeer):
        met = error.data.convert_to(vcha_client.CertificateInfo)
        data = {"ssl_thumbprint": met.ssl_thumbprint, "ssl_certificate": met.ssl_certificate}
    return decode_error_rest({"error_type": kind.value, "messages": read, "data": data})


def ended(client: Client, stage: ServedCluster, result: Any) -> Any:
    """Poll the task that a call started, by the same protocol; return its info when it ends."""
    task = getattr(result, "get_task_id", lambda: result)()
    who = Identification(token=stage.tokens[ADMINISTRATOR])
    infos: list[Any] = []

    def finished() -> bool:
        infos[:] = [client.call(stage, by_id("com.vmware.cis.tasks.get"), {"task": task}, who)]
        return infos[0].status not in UNFINISHED

    until(finished, TASK_SECONDS, seen=lambda: infos, pause=POLL_SECONDS)
    return infos[0]

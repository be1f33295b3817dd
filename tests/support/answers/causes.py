"""The causes of each error of each operation, reproduced in a simulated cluster."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.answers.asking import (
    CLUSTER,
    HOST_SPEC,
    HOSTS,
    SESSION,
    TASKS,
    VCHA,
    Made,
    always,
    begin_and_arguments,
    join_spec,
    no_arguments,
    of_host,
    of_task,
    tasks_of,
    with_peer,
)
from tests.support.answers.beginnings import (
    failing_over,
    given_up,
    healthy,
    on_hosts,
    passive_lost,
    place,
    prepared,
    single,
    witness_lost,
)
from tests.support.answers.conditions import (
    Holding,
    a_host,
    a_host_with_a_vm,
    all_hosts,
    busy_without_space,
    early_token,
    ended_task,
    fault,
    join_runs,
    many,
    many_tasks,
    nobody_listens,
    nothing,
    running_task,
    stranger,
    token,
    token_while_busy,
    unreadable,
    unreadable_task,
)
from tests.support.answers.stage import Begin
from tests.support.edge import ADMINISTRATOR, NOBODY, PASSWORD, READER

from openvcha.api.errors import ErrorType
from openvcha.api.operations import OPERATIONS, Operation, Privilege, by_id
from openvcha.infrastructure.queries import LISTS
from openvcha.operations.steps.manual_join_steps import JOINING
from openvcha.store import keys

E = ErrorType
WRONG_THUMBPRINT = ":".join(["AA"] * 32)


@dataclass(frozen=True)
class Cause:
    """One way to provoke an error.

    ``holds`` is active during the call; ``arguments`` gets the stage and what ``holds`` yields.
    ``says`` is the id of a message. With an empty ``user`` nobody is logged in.
    """

    says: str
    begin: Begin = single
    holds: Holding = nothing
    arguments: Made = no_arguments
    user: str = ADMINISTRATOR
    password: str = ""
    """Set: the call comes with name and password instead of a session."""


def _common(operation: Operation) -> Iterator[tuple[ErrorType, Cause]]:
    """Yield the causes that all operations share, for the errors that this one declares."""
    begin, arguments = begin_and_arguments(operation)
    user = "" if not operation.authenticated else ADMINISTRATOR

    def cause(says: str, holds: Holding = nothing, who: str = user) -> Cause:
        return Cause(says, begin, holds, arguments, who)

    yield (
        E.UNAUTHENTICATED,
        cause("com.vmware.vapi.endpoint.method.authentication.required", who=""),
    )
    without = NOBODY if operation.privilege is Privilege.SYSTEM_READ else READER
    yield E.UNAUTHORIZED, cause("vapi.security.authorization.invalid", who=without)
    yield E.SERVICE_UNAVAILABLE, cause("store.unavailable", fault("no quorum"))
    yield E.ERROR, cause("store.unreadable", unreadable(_needed(operation)))


def _needed(operation: Operation) -> str:
    """Return the key in the store that the operation cannot do without."""
    if operation.id == f"{JOINING}.join":
        return keys.join_token("passive")
    own = operation.service.startswith(VCHA) or operation.id == f"{JOINING}.issue"
    return keys.CLUSTER if own else keys.user(ADMINISTRATOR)


def _peer(operation: Operation) -> Iterator[tuple[ErrorType, Cause]]:
    """Yield the errors of the vCenter that the call names."""
    begin = begin_and_arguments(operation)[0]

    def cause(says: str, holds: Holding = nothing, **where: Any) -> Cause:
        return Cause(says, begin, holds, with_peer(operation, **where))

    yield E.INVALID_ARGUMENT, cause("invalid.credentials", username="stranger", password="x")
    yield E.UNVERIFIED_PEER, cause("peer.unverified", ssl_thumbprint=WRONG_THUMBPRINT)
    yield E.ERROR, cause("peer.unreachable", nobody_listens)
    yield E.NOT_FOUND, cause("peer.not.manager", stranger)


def _inventory(kind: str, most: int) -> Iterator[tuple[ErrorType, Cause]]:
    yield (
        E.UNABLE_TO_ALLOCATE_RESOURCE,
        Cause("inventory.too.many", healthy, many(kind, most)),
    )
    if kind in _ENUMERATED:
        value: Any = "SIDEWAYS" if kind == "folder" else ["SIDEWAYS"]
        wrong = always({"filter": {_ENUMERATED[kind]: value}})
        yield E.INVALID_ARGUMENT, Cause("decode.enum", healthy, arguments=wrong)


#: The field of each filter whose names come from a fixed set.
_ENUMERATED = {
    "folder": "type",
    "host": "connection_states",
    "network": "types",
    "datastore": "types",
    "VM": "power_states",
}


def _check(role: str, begin: Begin) -> dict[tuple[str, ErrorType], Cause]:
    name, given = f"{CLUSTER}.{role}.check", always({"spec": {"placement": place()}})
    return {
        (name, E.INVALID_ELEMENT_CONFIGURATION): Cause(
            "active.elsewhere", begin, fault("data elsewhere"), given
        ),
        (name, E.NOT_ALLOWED_IN_CURRENT_STATE): Cause(
            "cluster.not.configured", single, arguments=given
        ),
    }


def _unmanaged() -> dict[tuple[str, ErrorType], Cause]:
    """Return the cause that all operations on hosts share: another infrastructure."""
    return {
        (f"{HOSTS}.{name}", E.NOT_ALLOWED_IN_CURRENT_STATE): Cause(
            "hosts.unmanaged", single, arguments=begin_and_arguments(by_id(f"{HOSTS}.{name}"))[1]
        )
        for name in ("list", "add", "set", "remove")
    }


_LIMIT = always({"filter": {"limit": -1}})
_OF_THEIR_OWN: dict[tuple[str, ErrorType], Cause] = {
    (f"{SESSION}.create", E.UNAUTHENTICATED): Cause(
        "vapi.security.authentication.invalid", user="nobody-of-that-name", password="wrong"
    ),
    (f"{SESSION}.create", E.SERVICE_UNAVAILABLE): Cause(
        "store.unavailable", holds=fault("no quorum"), password=PASSWORD
    ),
    (f"{TASKS}.get", E.NOT_FOUND): Cause("task.not.found", arguments=of_task),
    (f"{TASKS}.get", E.RESOURCE_INACCESSIBLE): Cause(
        "task.unreadable", holds=unreadable_task, arguments=of_task
    ),
    (f"{TASKS}.list", E.INVALID_ARGUMENT): Cause("task.filter.empty"),
    (f"{TASKS}.list", E.RESOURCE_INACCESSIBLE): Cause(
        "task.filter.too.many", holds=many_tasks, arguments=tasks_of
    ),
    (f"{TASKS}.cancel", E.NOT_FOUND): Cause("task.not.found", arguments=of_task),
    (f"{TASKS}.cancel", E.RESOURCE_INACCESSIBLE): Cause(
        "task.unreadable", holds=unreadable_task, arguments=of_task
    ),
    (f"{TASKS}.cancel", E.NOT_ALLOWED_IN_CURRENT_STATE): Cause(
        "task.finished", holds=ended_task, arguments=of_task
    ),
    (f"{TASKS}.cancel", E.UNSUPPORTED): Cause(
        "task.not.cancelable", failing_over, running_task, of_task
    ),
    (f"{TASKS}.cancel", E.ERROR): Cause(
        "store.refused", holds=busy_without_space, arguments=of_task
    ),
    (f"{CLUSTER}.active.get", E.INVALID_ELEMENT_CONFIGURATION): Cause(
        "active.elsewhere", healthy, fault("data elsewhere")
    ),
    (f"{CLUSTER}.mode.get", E.NOT_ALLOWED_IN_CURRENT_STATE): Cause("cluster.not.configured"),
    **_check("passive", passive_lost),
    **_check("witness", witness_lost),
    ("org.openvcha.events.list", E.INVALID_ARGUMENT): Cause("event.limit", arguments=_LIMIT),
    ("org.openvcha.audit.list", E.INVALID_ARGUMENT): Cause("event.limit", arguments=_LIMIT),
    **_unmanaged(),
    (f"{HOSTS}.add", E.INVALID_ARGUMENT): Cause(
        "hosts.key", on_hosts, arguments=always({"spec": {**HOST_SPEC, "host_key": "none"}})
    ),
    (f"{HOSTS}.add", E.ALREADY_EXISTS): Cause(
        "infrastructure.vm.exists",
        on_hosts,
        a_host,
        always({"spec": {**HOST_SPEC, "name": "H3"}}),
    ),
    (f"{HOSTS}.add", E.UNABLE_TO_ALLOCATE_RESOURCE): Cause(
        "inventory.full", on_hosts, all_hosts, always({"spec": HOST_SPEC})
    ),
    (f"{HOSTS}.set", E.INVALID_ARGUMENT): Cause(
        "hosts.port",
        on_hosts,
        a_host,
        lambda _stage, held: {"spec": {"host": held, "port": 0}},
    ),
    (f"{HOSTS}.set", E.NOT_FOUND): Cause("infrastructure.unknown", on_hosts, arguments=of_host),
    (f"{HOSTS}.remove", E.NOT_FOUND): Cause("infrastructure.unknown", on_hosts, arguments=of_host),
    (f"{HOSTS}.remove", E.RESOURCE_IN_USE): Cause(
        "inventory.in.use", on_hosts, a_host_with_a_vm, of_host
    ),
    (f"{JOINING}.issue", E.NOT_ALLOWED_IN_CURRENT_STATE): Cause(
        "join.not.prepared", arguments=begin_and_arguments(by_id(f"{JOINING}.issue"))[1]
    ),
    (f"{JOINING}.issue", E.RESOURCE_BUSY): Cause(
        "task.busy", prepared, join_runs, begin_and_arguments(by_id(f"{JOINING}.issue"))[1]
    ),
    (f"{JOINING}.revoke", E.NOT_FOUND): Cause(
        "join.token.none", single, arguments=begin_and_arguments(by_id(f"{JOINING}.revoke"))[1]
    ),
    (f"{JOINING}.join", E.INVALID_ARGUMENT): Cause(
        "join.token.invalid", prepared, token, lambda stage, _: join_spec(stage, None), user=""
    ),
    (f"{JOINING}.join", E.NOT_ALLOWED_IN_CURRENT_STATE): Cause(
        "join.not.prepared", given_up, early_token, join_spec, user=""
    ),
    (f"{JOINING}.join", E.RESOURCE_BUSY): Cause(
        "task.busy", prepared, token_while_busy, join_spec, user=""
    ),
}


def _declared(
    operation: Operation, found: Iterable[tuple[ErrorType, Cause]]
) -> dict[tuple[str, ErrorType], Cause]:
    return {(operation.id, kind): cause for kind, cause in found if kind in operation.errors}


def _takes_peer(operation: Operation) -> bool:
    return E.UNVERIFIED_PEER in operation.errors


#: By operation and error. General causes come first; an operation's own take precedence.
CAUSES: dict[tuple[str, ErrorType], Cause] = {}
for _operation in OPERATIONS:
    CAUSES |= _declared(_operation, _common(_operation))
    if _takes_peer(_operation):
        CAUSES |= _declared(_operation, _peer(_operation))
for _kind, (_, _most) in LISTS.items():
    _operation = by_id(f"com.vmware.vcenter.{_kind}.list")
    CAUSES |= {(_operation.id, kind): cause for kind, cause in _inventory(_kind, _most)}
CAUSES |= _OF_THEIR_OWN

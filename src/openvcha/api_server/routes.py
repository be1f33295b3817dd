"""Routing: the operation of a method, a path and a query."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.api.operations import OPERATIONS, Operation, SessionAction

ACTION = "action"
LEGACY_ACTION = "~action"
TASK = "vmw-task"
#: Query parameters that select the operation and are not its arguments.
VERBS = frozenset({ACTION, LEGACY_ACTION, TASK})
LEGACY_SESSION = "/com/vmware/cis/session"
_MAX_SHOWN = 200


@dataclass(frozen=True)
class Route:
    """One route to an operation; `path` may have `{parameters}`."""

    method: str
    path: str
    action: str | None
    operation: Operation

    @property
    def task(self) -> bool:
        """Return whether the route starts a task."""
        return self.operation.task


@dataclass(frozen=True)
class Match:
    """The operation of a request, and the parameters in its path."""

    operation: Operation
    path_parameters: Mapping[str, str]


def api_routes() -> tuple[Route, ...]:
    """Return the routes below /api."""
    return tuple(_route(operation, operation.path) for operation in OPERATIONS)


def legacy_routes() -> tuple[Route, ...]:
    """Return the routes below /rest: the session has its own path, and may be read by POST."""
    routes = [_route(each, LEGACY_SESSION if each.session else each.path) for each in OPERATIONS]
    asked = [
        Route("POST", route.path, "get", route.operation)
        for route in routes
        if route.operation.session is SessionAction.SHOW
    ]
    return (*routes, *asked)


class Router:
    """A router that finds the operation of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[str, list[Route]] = defaultdict(list)
        self._patterns: dict[re.Pattern[str], list[Route]] = defaultdict(list)
        for route in routes:
            if "{" in route.path:
                self._patterns[_pattern(route.path)].append(route)
            else:
                self._fixed[route.path].append(route)

    def find(self, method: str, path: str, query: Mapping[str, str]) -> Match:
        """Return the operation of a request. Raises ApiError OPERATION_NOT_FOUND."""
        routes, parameters = self._at(path)
        action = query.get(ACTION) or query.get(LEGACY_ACTION)
        task = query.get(TASK, "").lower() == "true"
        wanted = "GET" if method == "HEAD" else method, action, task
        for route in routes:
            if (route.method, route.action, route.operation.task) == wanted:
                return Match(route.operation, parameters)
        raise _unknown(routes, path, *wanted)

    def methods(self, path: str) -> frozenset[str]:
        """Return the methods of a path. Raises ApiError OPERATION_NOT_FOUND."""
        methods = {route.method for route in self._at(path)[0]}
        return frozenset(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))

    def _at(self, path: str) -> tuple[list[Route], Mapping[str, str]]:
        if path in self._fixed:
            return self._fixed[path], {}
        for pattern, routes in self._patterns.items():
            if found := pattern.fullmatch(path):
                return routes, found.groupdict()
        raise unknown_path(path)


def unknown_path(path: str) -> ApiError:
    """Return OPERATION_NOT_FOUND for an unknown path."""
    return ApiError(
        ErrorType.OPERATION_NOT_FOUND, message("com.vmware.vapi.rest.httpNotFound", path)
    )


def _unknown(
    routes: Iterable[Route], path: str, method: str, action: str | None, task: bool
) -> ApiError:
    """Return OPERATION_NOT_FOUND, naming the known routes and the closest one."""
    asked = _written(method, path, action, task=task)
    there = ", ".join(_written(each.method, path, each.action, task=each.task) for each in routes)
    messages = [message("operation.unknown", asked, there)]
    if not task and any((r.method, r.action, r.task) == (method, action, True) for r in routes):
        messages.append(message("operation.unknown.task", asked))
    return ApiError(ErrorType.OPERATION_NOT_FOUND, *messages)


def _written(method: str, path: str, action: str | None, *, task: bool) -> str:
    """Return a request as one types it, of bounded length, since any client may send it."""
    verbs = [f"action={action[:_MAX_SHOWN]}"] if action else []
    verbs += [f"{TASK}=true"] if task else []
    shown = f"{method[:_MAX_SHOWN]} {path[:_MAX_SHOWN]}"
    return f"{shown}?{'&'.join(verbs)}" if verbs else shown


def _route(operation: Operation, path: str) -> Route:
    return Route(operation.method, path, operation.action, operation)


def _pattern(path: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", path)
    return re.compile(
        "".join(
            f"(?P<{piece}>[^/]+)" if place % 2 else re.escape(piece)
            for place, piece in enumerate(pieces)
        )
    )

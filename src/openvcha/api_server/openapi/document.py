"""The OpenAPI 3.0.3 document of REST below /api, generated from the table of operations."""

from collections.abc import Iterable, Iterator
from typing import Any

from openvcha.api.errors import STATUS, ErrorType
from openvcha.api.operations import OPERATIONS, Operation, Parameter, SessionAction
from openvcha.api.structures import LocalizableMessage
from openvcha.api.types import OptionalType, StructType, Type, descriptor
from openvcha.api_server.auth.credentials import SESSION_HEADER
from openvcha.api_server.http import ANONYMOUS_BODY, AUTHENTICATED_BODY
from openvcha.api_server.openapi import schemas
from openvcha.api_server.openapi.constraints import FIELDS, REQUIRED_PARAMETERS

_TASK_REFUSALS = (
    ErrorType.ALREADY_IN_DESIRED_STATE,
    ErrorType.NOT_ALLOWED_IN_CURRENT_STATE,
    ErrorType.RESOURCE_BUSY,
)
"""The contract declares none of them, yet clients of vCenter get them."""
_ABOUT = (
    "vCenter High Availability: the cluster, its nodes and its tasks. "
    "An optional field is unset if it is null, or an empty string, list or object of the field's "
    f"own type. A request's body has at most {AUTHENTICATED_BODY.max_bytes} bytes, or "
    f"{ANONYMOUS_BODY.max_bytes} if the operation needs no login."
)


def document() -> dict[str, Any]:
    """Return the complete document, ready for JSON encoding."""
    components: dict[str, Any] = {}
    schemas.collect(descriptor(LocalizableMessage), components)
    schemas.collect(descriptor(ErrorType), components)
    components[schemas.ERROR] = schemas.error()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        for type_ in _types(operation):
            schemas.collect(type_, components)
        paths.setdefault(_key(operation), {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "openvcha",
            "description": _ABOUT,
            "version": "9.1.0.0",
        },
        "servers": [{"url": "/api"}],
        "tags": [{"name": name} for name in dict.fromkeys(map(_tag, OPERATIONS))],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "api_key_auth": {"type": "apiKey", "in": "header", "name": SESSION_HEADER},
                "basic_auth": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _key(operation: Operation) -> str:
    verbs = [f"action={operation.action}"] if operation.action else []
    verbs += ["vmw-task=true"] if operation.task else []
    return operation.path + ("?" + "&".join(verbs) if verbs else "")


def _tag(operation: Operation) -> str:
    return schemas.name(operation.service)


def _operation(operation: Operation) -> dict[str, Any]:
    suffix = "$Task" if operation.task else ""
    described: dict[str, Any] = {
        "tags": [_tag(operation)],
        "summary": operation.summary,
        "description": _description(operation),
        "operationId": f"{_tag(operation)}_{operation.name}{suffix}",
        "responses": _responses(operation),
        "security": _security(operation),
    }
    if parameters := [*_path_parameters(operation), *_query_parameters(operation)]:
        described["parameters"] = parameters
    if operation.body_parameters:
        described["requestBody"] = _body(operation)
    return described


def _description(operation: Operation) -> str:
    needs = f" Requires the privilege {operation.privilege.value}." if operation.privilege else ""
    later = "" if operation.available else " Not supported yet."
    return f"{operation.summary}{needs}{later}"


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if not operation.authenticated:
        return []
    if operation.session is SessionAction.LOG_IN:
        return [{"basic_auth": []}]
    return [{"api_key_auth": []}, {"basic_auth": []}]


def _path_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for parameter in operation.path_parameters:
        schema = schemas.schema(descriptor(parameter.type)) | {"minLength": 1}
        yield {"name": parameter.name, "in": "path", "required": True, "schema": schema}


def _query_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for parameter in operation.query_parameters:
        structure = _inner(descriptor(parameter.type))
        if not isinstance(structure, StructType):
            raise TypeError(f"{operation.id}: {parameter.name} must be a structure")
        for field in structure.fields:
            yield {
                "name": field.name,
                "in": "query",
                "required": not field.optional,
                "schema": schemas.schema(_inner(field.type))
                | dict(FIELDS.get(structure.name, {}).get(field.name, {})),
            }


def _body(operation: Operation) -> dict[str, Any]:
    parameters = operation.body_parameters
    if operation.body_is_spec:
        schema = schemas.schema(_inner(descriptor(parameters[0].type)))
    else:
        schema = _object(parameters)
        if demanded := REQUIRED_PARAMETERS.get(operation.id):
            schema["required"] = [*schema.get("required", ()), *demanded]
    required = not all(parameter.optional for parameter in parameters) or "required" in schema
    return {"required": required, "content": _json(schema)}


def _object(parameters: Iterable[Parameter]) -> dict[str, Any]:
    types = [(each.name, descriptor(each.type)) for each in parameters]
    return schemas.object_of(types)


def _responses(operation: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Done."}
    if operation.task:
        success["description"] = "Accepted; returns the task's identifier."
    if operation.reply is not None:
        success["content"] = _json(schemas.schema(descriptor(operation.reply)))
    by_status: dict[int, list[str]] = {}
    for error in _errors(operation):
        by_status.setdefault(STATUS[error], []).append(error.value)
    failures = {
        str(status): {
            "description": " or ".join(sorted(names)),
            "content": _error(),
        }
        for status, names in sorted(by_status.items())
    }
    other = {"description": "Any other standard error.", "content": _error()}
    return {str(operation.status): success, **failures, "default": other}


def _errors(operation: Operation) -> Iterable[ErrorType]:
    """Return the declared errors and those of the protocol itself."""
    own = [ErrorType.INTERNAL_SERVER_ERROR, ErrorType.UNAUTHENTICATED]
    own += [ErrorType.SERVICE_UNAVAILABLE]
    if operation.privilege is not None:
        own.append(ErrorType.UNAUTHORIZED)
    # Even without parameters: an ambiguous head, or an invalid body.
    own += [ErrorType.INVALID_ARGUMENT, ErrorType.UNEXPECTED_INPUT, ErrorType.INVALID_REQUEST]
    if not operation.available:
        own.append(ErrorType.UNSUPPORTED)
    if operation.task:
        own += _TASK_REFUSALS
    return dict.fromkeys((*operation.errors, *own))


def _types(operation: Operation) -> Iterator[Type]:
    # Structures in the query are flattened into their fields and have no schema.
    for parameter in operation.parameters:
        type_ = descriptor(parameter.type)
        structure = _inner(type_)
        if parameter.query and isinstance(structure, StructType):
            yield from (field.type for field in structure.fields)
        else:
            yield type_
    yield descriptor(operation.reply)
    yield descriptor(operation.output)  # the result of a task


def _inner(type_: Type) -> Type:
    return type_.element if isinstance(type_, OptionalType) else type_


def _error() -> dict[str, Any]:
    return _json(schemas.reference(schemas.ERROR))


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}

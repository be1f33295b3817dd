"""Checks that schemathesis lacks for this API: its errors, and what counts as unset.

Schemathesis loads this in its own process (``hooks`` in ``schemathesis.toml``).
"""

import re
from typing import Any

import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.hooks import HookContext
from tests.support.schema_agrees import described, schema_takes

from openvcha.api.codec.decode import decode_error_rest
from openvcha.api.errors import STATUS, ErrorType
from openvcha.api.messages import PREFIX
from openvcha.api.operations import OPERATIONS, Operation
from openvcha.api_server.openapi import document

BY_ID = {document._operation(each)["operationId"]: each for each in OPERATIONS}
OF_THE_FORM = ("vapi.data.", f"{PREFIX}decode.")
"""How the ids of messages begin that refuse a request for its form."""


def operation_of(case: schemathesis.Case[Any]) -> Operation:
    """Return the operation that a case calls."""
    return BY_ID[case.operation.definition.raw["operationId"]]


def is_positive(case: schemathesis.Case[Any]) -> bool:
    """Return whether schemathesis generated the case as valid."""
    return case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE


@schemathesis.check
def declared_error(ctx: CheckContext, response: Response, case: schemathesis.Case[Any]) -> None:
    """Check a refusal against the standard form, and against the errors declared for its status."""
    del ctx
    if response.status_code < 400:
        return
    error = decode_error_rest(response.json())
    assert error.messages, "an error says nothing"
    assert error.error_type is not ErrorType.INTERNAL_SERVER_ERROR, str(error)
    assert STATUS[error.error_type] == response.status_code
    if response.request.method != case.operation.method.upper():
        return
    named = described(operation_of(case))["responses"].get(str(response.status_code), {})
    assert error.error_type.value in named.get("description", "").split(" or "), str(error)


@schemathesis.check
def right_form_accepted(
    ctx: CheckContext, response: Response, case: schemathesis.Case[Any]
) -> None:
    """Check that a request the description allows is never refused for its form."""
    del ctx
    if response.status_code != 400 or not is_positive(case):
        return
    error = decode_error_rest(response.json())
    assert not [said.id for said in error.messages if said.id.startswith(OF_THE_FORM)], str(error)


@schemathesis.hook
def filter_failure(
    context: HookContext, failure: Failure, case: schemathesis.Case[Any], response: Response
) -> bool:
    """Ignore an accepted request in which only an optional was empty: that counts as unset."""
    del context, response
    if not isinstance(failure, AcceptedNegativeData):
        return True
    named = re.findall(r"parameter `(\w+)` in query", failure.message)
    if named:
        return not all(case.query.get(name) in ("", [""]) for name in named)
    return not _only_unset(case)


def _only_unset(case: schemathesis.Case[Any]) -> bool:
    operation, body = operation_of(case), case.body
    if not operation.body_parameters or not isinstance(body, dict | list | str | int | None):
        return False
    return body is None or schema_takes(operation, body)

"""vAPI JSON-RPC requests, written by hand."""

from typing import Any

from tests.support.edge import ADMINISTRATOR, PASSWORD

SCHEMES = "com.vmware.vapi.std.security."


EMPTY: dict[str, Any] = {"STRUCTURE": {"operation-input": {}}}


USER = {"schemeId": f"{SCHEMES}user_pass", "userName": ADMINISTRATOR, "password": PASSWORD}


def invocation(
    service: str = "com.vmware.vcenter.vcha.operations",
    operation: str = "get",
    security: Any = None,
    given: Any = None,
) -> dict[str, Any]:
    """Return a request; ``given`` is its input."""
    return {
        "jsonrpc": "2.0",
        "id": "17",
        "method": "invoke",
        "params": {
            "serviceId": service,
            "operationId": operation,
            "input": given or EMPTY,
            "ctx": {"appCtx": {"opId": "x"}, "securityCtx": security},
        },
    }

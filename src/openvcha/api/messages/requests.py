"""Requests: parsing, protocols, sessions and users."""

KNOWN = {
    "com.vmware.vapi.endpoint.method.authentication.required": "Log in first.",
    "vapi.security.authentication.invalid": "The user name or the password is wrong.",
    "vapi.security.authorization.invalid": "The user lacks the privilege %s.",
    "com.vmware.vapi.rest.httpNotFound": "There is nothing at %s.",
    "vapi.method.input.invalid.interface": "There is no service %s.",
    "vapi.method.input.invalid.method": "There is no operation %s in service %s.",
    "vapi.data.structure.field.unexpected": "%s is not a field of %s.",
    "vapi.data.structure.field.missing": "%s is missing.",
    "vapi.data.structure.field.invalid": "%s is not valid.",
}
"""Full ids known from real systems; the texts are ours."""

DECODING = {
    "decode.too.large": "The request is larger than %s bytes.",
    "decode.encoding": "The request is not valid UTF-8.",
    "decode.syntax": "The request is not valid JSON: %s at character %s.",
    "decode.number": "The request contains a number that is too long or that JSON does not allow.",
    "decode.finite": "%s must be a finite number.",
    "decode.depth": "The request is nested deeper than %s levels.",
    "decode.duplicate": "%s appears more than once.",
    "decode.type": "%s must be %s, not %s.",
    "decode.wrapper": "%s must be an object with the single key %s.",
    "decode.name": "%s must be an object whose single key is the name of the structure.",
    "decode.entry": "%s must be a map entry: a key and a value.",
    "decode.structure": "%s must be the structure %s, not %s.",
    "decode.text": "%s contains characters that are not valid Unicode.",
    "decode.enum": "%s must be one of %s.",
    "decode.range": "%s must be an integer from %s to %s.",
    "decode.time": "%s must be a time such as 2026-01-31T12:00:00Z.",
    "decode.union.missing": "%s must be set when %s is %s.",
    "decode.union.extra": "%s must not be set when %s is %s.",
    "decode.query.repeated": "The query parameter %s appears more than once.",
}

PROTOCOLS = {
    "operation.unsupported": "%s is not supported yet.",
    "operation.unknown": "No such operation: %s. Operations at this path: %s.",
    "operation.unknown.task": (
        "%s runs only as a task: add vmw-task=true to the query, and follow the task."
    ),
    "internal.error": "Internal error; search the log for operation id %s.",
    "content.type": "The body must be application/json, not %s.",
    "content.charset": "The charset %s is not supported; send the body in UTF-8.",
    "content.encoding": (
        "The Content-Encoding %s is not supported; send the body plain or with gzip."
    ),
    "content.gzip": "The body is not valid gzip.",
    "request.malformed": "The request is not valid HTTP.",
    "request.headers": "The request has more than %s headers.",
    "request.gone": "The client closed the connection before its request was complete.",
    "request.slow": "The request did not arrive within %s seconds.",
    "request.stranger": (
        "The request is larger than %s bytes; a larger one needs a session token in the header"
        " vmware-api-session-id."
    ),
    "request.repeated": "The request has %s %s times; send it once.",
    "request.flag": "The query has %s=%s; it must be true or false.",
    "request.target": "The %s of the request is not valid UTF-8 once percent-decoded.",
    "store.unavailable": "The cluster's store cannot be reached; try again.",
    "store.is.full": (
        "The cluster's store is full; nothing was written. Run `vcha node store defragment"
        " DIRECTORY` on a data node to free space."
    ),
    "store.refused": "The cluster's store refused the request: %s.",
    "store.unreadable": (
        "The record %s in the cluster's store cannot be read; search the log for operation id %s."
        " On a data node, `vcha node store set-aside` moves the record out of the way."
    ),
    "users.busy": "Too many passwords are being checked; try again in a moment.",
    "sessions.too.fast": (
        "More than %s logins by one user within a minute; reuse one session for many calls."
    ),
    "store.outcome.unknown": "The connection to the store was lost; the outcome is unknown.",
    "server.busy": "Too many requests are in progress; try again in a second.",
    "server.stopping": "The server is stopping; the outcome is unknown.",
    "users.exists": "The user %s already exists.",
    "users.unknown": "There is no user %s.",
    "users.last": (
        "%s is the last user with the role Administrator; without one, nobody could change"
        " anything. Add another first: `vcha user add NAME --role Administrator`."
    ),
    "users.name": (
        "A user name must have 1 to %s printable characters and no colon or slash; a backslash may"
        " only separate a domain from a name."
    ),
    "users.password": "A password must have %s to %s characters.",
    "users.throttled": "Too many wrong passwords in a row; try again in %s seconds.",
}

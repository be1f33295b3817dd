"""Requests: reading them, the protocols, sessions and users."""

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
"""Ids known from real systems, whole; the texts are ours."""

DECODING = {
    "decode.too.large": "The request is larger than %s bytes.",
    "decode.encoding": "The request is not valid UTF-8.",
    "decode.syntax": "The request is not valid JSON: %s at character %s.",
    "decode.number": (
        "The request holds a number that JSON does not allow, or one that is too long."
    ),
    "decode.finite": "%s must be a finite number.",
    "decode.depth": "The request is nested deeper than %s levels.",
    "decode.duplicate": "%s is given more than once.",
    "decode.type": "%s must be %s, not %s.",
    "decode.wrapper": "%s must be an object with the single key %s.",
    "decode.name": "%s must be an object with a single key, the name of the structure.",
    "decode.entry": "%s must be an entry of a map: its key and its value.",
    "decode.structure": "%s must be the structure %s, not %s.",
    "decode.text": "%s holds characters that are not valid Unicode.",
    "decode.enum": "%s must be one of %s.",
    "decode.range": "%s must be an integer from %s to %s.",
    "decode.time": "%s must be a time as 2026-01-31T12:00:00Z.",
    "decode.union.missing": "%s must be set when %s is %s.",
    "decode.union.extra": "%s must not be set when %s is %s.",
    "decode.query.repeated": "The query parameter %s is given more than once.",
}

PROTOCOLS = {
    "operation.unsupported": "%s is not supported yet.",
    "operation.unknown": "There is no such operation: %s. At this path there are: %s.",
    "operation.unknown.task": (
        "%s runs only as a task: use vmw-task=true in the query, and follow the task."
    ),
    "internal.error": "Something went wrong inside; the log has more under operation id %s.",
    "content.type": "A body must be application/json, not %s.",
    "content.charset": "A body in the charset %s is not accepted: send UTF-8.",
    "content.encoding": (
        "A body with Content-Encoding %s is not accepted: send it plain or with gzip."
    ),
    "content.gzip": "The body is not valid gzip and cannot be unpacked.",
    "request.malformed": "The request is not valid HTTP.",
    "request.gone": "The client closed the connection before its request was complete.",
    "request.slow": "The request did not arrive within %s seconds.",
    "request.stranger": (
        "The request is larger than %s bytes; more is read only with the token of a session in the"
        " header vmware-api-session-id."
    ),
    "request.repeated": "The request has %s %s times; send it once.",
    "request.flag": "The query has %s=%s; it must be true or false.",
    "request.target": "The %s of the request is not UTF-8 where it is quoted by %% signs.",
    "store.unavailable": "The store of the cluster cannot be reached; try again.",
    "store.is.full": (
        "The store of the cluster is full; nothing was written. `vcha node store defragment"
        " DIRECTORY` on a data node frees space."
    ),
    "store.refused": "The store of the cluster refused it: %s.",
    "store.unreadable": (
        "The record under %s in the cluster's store cannot be read; the log has more under"
        " operation id %s. On a data node `vcha node store set-aside` moves it out of the way."
    ),
    "users.busy": "Too many passwords are being checked; try again soon.",
    "sessions.too.fast": (
        "More than %s sessions of one user within a minute; use one session for many calls."
    ),
    "store.outcome.unknown": (
        "The connection to the store was lost; whether it was done is unknown."
    ),
    "server.busy": "Too many requests are in progress; try again in a second.",
    "server.stopping": "The server is stopping; whether it was done is unknown.",
    "users.exists": "The user %s already exists.",
    "users.unknown": "There is no user %s.",
    "users.last": (
        "%s is the last user with the role Administrator; without one, nobody could change"
        " anything. Add another one first: `vcha user add NAME --role Administrator`."
    ),
    "users.name": (
        "A user name has 1 to %s printable characters, no colon and no slash; a backslash stands"
        " between a domain and a name only."
    ),
    "users.password": "A password has %s to %s characters.",
    "users.throttled": "Too many wrong passwords in a row; try again in %s seconds.",
}

"""Events and the audit."""

EVENTS = {
    "audit.more": "%s more records (caller: %s) were counted but not stored.",
    "event.id": "%s is not an event id.",
    "event.limit": "limit must be from 1 to %s, not %s.",
    "event.config": "The configuration is now %s; it was %s.",
    "event.destroyed": "The cluster was dissolved; the active node continues alone.",
    "event.mode": "The mode is now %s; it was %s.",
    "event.failover": "%s is now the active node; it was %s.",
    "event.failover.refused": "A failover was requested and refused: %s",
    "event.address": "%s has taken the public address.",
    "event.primary.again": (
        "%s lost the primary role and regained it; it accepted no writes in between."
    ),
    "event.primary.restarted": (
        "PostgreSQL on %s restarted and is still the primary; it accepted no writes in between."
    ),
    "event.node.joined": "%s is connected.",
    "event.node.left": "%s was lost or removed.",
    "event.in.sync": "The passive node is in sync.",
    "event.out.of.sync": "The passive node is not in sync.",
    "event.slot.dropped": "The replication slot %s of a removed node was dropped on %s.",
    "event.health": "The cluster is now %s.",
    "event.warning.over": "Cleared: %s",
    "event.operation.started": "Operation %s was started by %s.",
    "event.operation.succeeded": "Operation %s succeeded.",
    "event.operation.succeeded.left": "Operation %s succeeded, but: %s",
    "event.operation.failed": "Operation %s failed: %s",
    "event.streams": (
        "%s event streams are open; the server or this user has reached the limit. Close a stream,"
        " or try again later."
    ),
}

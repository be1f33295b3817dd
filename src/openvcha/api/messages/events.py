"""Events and the audit."""

EVENTS = {
    "audit.more": "And %s more of %s within a minute, which are not kept one by one.",
    "event.id": "%s is not the id of an event.",
    "event.limit": "limit must be from 1 to %s, not %s.",
    "event.config": "The configuration is %s now; it was %s.",
    "event.destroyed": "The cluster was dissolved; the active node goes on alone.",
    "event.mode": "The mode is %s now; it was %s.",
    "event.failover": "%s is the active node now; it was %s.",
    "event.failover.refused": "A failover was asked for and refused: %s",
    "event.address": "%s has taken the public address.",
    "event.primary.again": (
        "%s was not the primary for a while, and is it again: it took no writes meanwhile."
    ),
    "event.primary.restarted": (
        "The database of %s was started anew, and is the primary: it took no writes meanwhile."
    ),
    "event.node.joined": "%s is connected.",
    "event.node.left": "%s is lost or was taken out.",
    "event.in.sync": "The passive node has everything that the active has.",
    "event.out.of.sync": "The passive node has not everything that the active has.",
    "event.health": "The cluster is %s now.",
    "event.warning.over": "Over: %s",
    "event.operation.started": "Operation %s was started by %s.",
    "event.operation.succeeded": "Operation %s succeeded.",
    "event.operation.failed": "Operation %s failed: %s",
    "event.streams": "%s clients follow the events already; try again later.",
}

"""Nodes that join by a person's own means."""

JOINING = {
    "join.node": "Let %s join as the %s.",
    "join.not.prepared": "No node is expected: deploy with deployment MANUAL first.",
    "join.automatic": "The cluster was deployed automatically: redeploy its %s instead.",
    "join.joined": "%s has already joined as the %s.",
    "join.token.invalid": "This is not a valid token for the %s; a later one may have replaced it.",
    "join.token.expired": "The token has expired; issue another one.",
    "join.token.used": "The token was used by another node; issue another one.",
    "join.token.address": "The token is for the HA address %s, not for %s.",
    "join.request": "certificate_request cannot be used: %s.",
    "join.name": "%s is not a usable name, or belongs to another node or virtual machine.",
    "join.over": (
        "Task %s, in which this node joined, has ended: delete the node, issue a new token."
    ),
    "join.not.yet": "Task %s has not reached this node yet; try again.",
    "progress.join.start": "Waiting for %s: start it with `vcha node run` on its machine.",
    "progress.join.other": "%s has joined; the cluster starts when the other node has joined too.",
}

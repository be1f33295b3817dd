"""Nodes that join by a person's own means."""

JOINING = {
    "join.node": "Let %s join as the %s.",
    "join.not.prepared": "No node is awaited: deploy with deployment MANUAL first.",
    "join.automatic": "The cluster was deployed automatically: redeploy its %s instead.",
    "join.joined": "%s has joined as the %s already.",
    "join.token.invalid": "This is no token for the %s; it may have been replaced by a later one.",
    "join.token.expired": "The token has expired; issue another one.",
    "join.token.used": "The token was used by another node; issue another one.",
    "join.token.address": "The token is for the HA address %s, not for %s.",
    "join.request": "certificate_request is not usable: %s.",
    "join.name": "%s is no usable name, or belongs to another node or virtual machine.",
    "join.over": "Task %s, in which this node joined, is over: delete the node, issue a new token.",
    "join.not.yet": "Task %s goes on, but has not come to this node yet; try again.",
    "progress.join.start": "Waiting until %s runs: start it with `vcha node run` on its machine.",
    "progress.join.other": "%s is there; the cluster begins with the other node.",
}

"""Nodes that an administrator creates and joins."""

MANUAL_JOIN = {
    "join.node": "Join %s to the cluster as the %s.",
    "join.not.prepared": "No node is expected to join; deploy with deployment MANUAL first.",
    "join.automatic": "The cluster was deployed automatically; redeploy its %s instead.",
    "join.joined": "%s has already joined as the %s.",
    "join.token.invalid": "This token is not valid for the %s; a newer one may have replaced it.",
    "join.token.expired": "The token has expired; issue a new one.",
    "join.token.used": "Another node has used this token; issue a new one.",
    "join.token.issuer": (
        "The user who issued the token is no longer an Administrator or has a new password; "
        "issue a new one."
    ),
    "join.token.none": "There is no token for the %s.",
    "join.token.address": "The token is for the HA address %s, not for %s.",
    "join.request": "certificate_request cannot be used: %s.",
    "join.name": "%s is not a valid name, or another node or virtual machine has it.",
    "join.over": "Task %s, in which this node joined, has ended; it needs a new token.",
    "join.not.yet": "Task %s has not reached this node yet; try again.",
    "progress.join.start": "Waiting for %s: start it with `vcha node run` on its machine.",
    "progress.join.other": "%s has joined; the cluster starts when the other node has joined too.",
}

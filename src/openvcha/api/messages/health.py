"""The cluster's health: each reason, with what a person does about it."""

HEALTH = {
    "no.active": "No node is active: nothing takes writes now.",
    "active.stranger": (
        "%s leads, and is no node of this cluster any more: nothing it takes is protected."
    ),
    "active.stranger.recommendation": (
        "Fail over with planned=false, or end the node %s. If that gives no new active node, run"
        " `vcha node promote` on a data node of this cluster: it says what may be lost."
    ),
    "active.no.vote": "The active node %s has no working vote.",
    "active.no.vote.recommendation": "Look at the log of the store on %s.",
    "no.active.recommendation": "Wait for a failover; if none comes, look at the nodes' logs.",
    "node.lost": "The %s node %s does not answer.",
    "node.missing": "The cluster has no %s node.",
    "node.redeploy.recommendation": "Start the %s node again, or redeploy it.",
    "node.removed.recommendation": (
        "Redeploy the %s node: its vote was taken, so that starting it again does not help."
    ),
    "replication.stopped": "Replication to %s has stopped.",
    "replication.stopped.recommendation": "Look at the logs of %s, or redeploy it.",
    "replication.not.in.sync": "%s receives changes, but may not take over yet.",
    "replication.not.in.sync.recommendation": "Wait until %s has caught up.",
    "replication.lagging": "%s is %s bytes and %s s behind the active node.",
    "replication.lagging.recommendation": (
        "Wait until %s has caught up; if it does not, look at its disk, network and long queries."
    ),
    "quorum.no.margin": "One more loss stops the cluster: %s of %s votes answer.",
    "quorum.no.margin.recommendation": "Bring back the node that is lost, or redeploy it.",
    "store.full": (
        "The store is full (%s of %s bytes): nobody can log in, change anything or take over."
    ),
    "store.full.recommendation": (
        "A data node gives it room by itself; if that does not help,"
        " `vcha node store defragment DIRECTORY` on a data node does, and says what is left."
    ),
    "store.filling": "The store fills: %s %% of its quota (%s of %s bytes on %s, %s in use).",
    "store.filling.recommendation": (
        "Find out what writes so much (`vcha audit`); `vcha node store defragment DIRECTORY` on a"
        " data node gives it room."
    ),
    "versions.differ": "The nodes have different versions of %s: %s.",
    "versions.differ.recommendation": "Bring all nodes to the same version of %s.",
    "failover.address": "After a failover to %s the service is at %s, no longer at %s.",
    "failover.address.recommendation": (
        "Have clients and DNS ready to follow, or redeploy %s without a failover_ip of its own."
    ),
    "disk.nearly.full": "The disk of %s is nearly full: %s of %s bytes are free.",
    "disk.nearly.full.recommendation": "Free or add space on %s: a full disk ends its database.",
    "certificate.expires": "The %s certificate of %s is valid until %s only.",
    "certificate.node.recommendation": (
        "Redeploy %s, which gives it a new one; if it is active, make it passive before."
    ),
    "certificate.api.recommendation": (
        "Put a new tls/api.crt with its key on %s; it is read when the node becomes active."
    ),
    "clock.skew": "The clock of %s is %s s off the active node's.",
    "clock.skew.recommendation": "Let %s follow a time server (NTP) again.",
    "node.silent": "%s has not told its versions, disk and clock for over a minute.",
    "node.silent.recommendation": "Look at the log of the supervisor on %s.",
    "record.unreadable": "What the store holds under %s cannot be read.",
    "record.unreadable.recommendation": (
        "Until then it counts as unknown. `vcha node store list DIRECTORY` on a data node says why;"
        " `vcha node store set-aside DIRECTORY %s` takes it out of the way and keeps it."
    ),
    "background.failing": "Background work of the active node is interrupted: %s (%s).",
    "background.failing.recommendation": (
        "It is begun again and again. Why it ends is in the log of the service on the active node:"
        " look for %s."
    ),
    "patroni.settings.unfit": (
        "Patroni's settings are not those of a cluster in the mode %s, which has %s."
    ),
    "patroni.settings.unfit.recommendation": (
        "An undeploy or a change of the mode that failed has left them so: start it again."
    ),
    "patroni.setting.refused": (
        "Patroni's configuration in the store holds what no node takes from there: %s."
    ),
    "patroni.setting.refused.recommendation": (
        "Somebody with a node's certificate wrote it, or a person by mistake: find out who. To take"
        " it out, write the configuration without it."
    ),
    "record.forged": (
        "A record in the store is not as a data node has written it, and counts for nothing: %s."
    ),
    "record.forged.recommendation": (
        "Somebody has a node's certificate, or changed the store by hand: find out who. Where a"
        " node was stolen, undeploy and deploy anew. `vcha node store set-aside DIRECTORY %s`"
        " takes it away."
    ),
    "roll.older": (
        "The store is not as this node has seen it: what it holds of who may do what is older, or"
        " gone. Users and join tokens that differ from the newest seen count for nothing."
    ),
    "roll.older.recommendation": (
        "Somebody has put an old state of the store back: find out who. Where a node was stolen,"
        " undeploy and deploy anew. If you have restored the store yourself, look at"
        " `vcha node store list DIRECTORY` on the active node; `vcha node store accept DIRECTORY`"
        " has the store count as it is now."
    ),
    "failover.mode.maintenance": "No failover by itself: the cluster's mode is MAINTENANCE.",
}
"""Mostly ``NAME.recommendation`` is the advice for ``NAME``; some reasons share one."""

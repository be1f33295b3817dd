"""The cluster's health: each reason, with what a person does about it."""

HEALTH = {
    "no.active": "No node is active: nothing accepts writes.",
    "active.stranger": (
        "%s leads but is no longer part of this cluster: what it accepts is not protected."
    ),
    "active.stranger.recommendation": (
        "Fail over with planned=false, or shut down the node %s. If no node becomes active, run"
        " `vcha node promote` on a data node of this cluster; it shows what may be lost."
    ),
    "active.no.vote": "The active node %s has no working vote.",
    "active.no.vote.recommendation": "Check the etcd log on %s.",
    "no.active.recommendation": "Wait for a failover; if there is none, check the nodes' logs.",
    "node.lost": "The %s node %s does not answer.",
    "node.missing": "The cluster has no %s node.",
    "node.redeploy.recommendation": "Start the %s node again, or redeploy it.",
    "node.removed.recommendation": (
        "Redeploy the %s node: its vote was removed, so starting it again does not help."
    ),
    "replication.stopped": "Replication to %s has stopped.",
    "replication.stopped.recommendation": "Check the logs of %s, or redeploy it.",
    "replication.not.in.sync": "%s receives changes but must not take over yet.",
    "replication.not.in.sync.recommendation": "Wait until %s has caught up.",
    "replication.lagging": "%s is %s bytes and %s s behind the active node.",
    "replication.lagging.recommendation": (
        "Wait until %s has caught up; if it does not, check its disk, network and long queries."
    ),
    "quorum.no.margin": "Losing one more node stops the cluster: %s of %s votes answer.",
    "quorum.no.margin.recommendation": "Start the lost node again, or redeploy it.",
    "store.full": (
        "The store is full (%s of %s bytes): nobody can log in, change anything or take over."
    ),
    "store.full.recommendation": (
        "A data node defragments it automatically; if that does not help, run `vcha node store"
        " defragment DIRECTORY` on a data node; it shows what is left."
    ),
    "store.filling": (
        "The store is filling up: %s %% of its quota (%s of %s bytes on %s, %s in use)."
    ),
    "store.filling.recommendation": (
        "Find out what writes so much (`vcha audit`); `vcha node store defragment DIRECTORY` on a"
        " data node frees space."
    ),
    "versions.differ": "The nodes run different versions of %s: %s.",
    "versions.differ.recommendation": "Install the same version of %s on all nodes.",
    "failover.address": "After a failover to %s the service will be at %s, no longer at %s.",
    "failover.address.recommendation": (
        "Prepare clients and DNS for the change, or redeploy %s without a failover_ip of its own."
    ),
    "disk.nearly.full": "The disk of %s is nearly full: %s of %s bytes are free.",
    "disk.nearly.full.recommendation": "Free or add space on %s: a full disk stops its database.",
    "certificate.expires": "The %s certificate of %s expires on %s.",
    "certificate.node.recommendation": (
        "Redeploy %s to renew it; if it is the active node, fail over first."
    ),
    "certificate.api.recommendation": (
        "Install a new tls/api.crt with its key on %s; the node reads it when it becomes active."
    ),
    "clock.skew": "The clock of %s differs from the active node's by %s s.",
    "clock.skew.recommendation": "Synchronize %s with a time server (NTP).",
    "node.silent": "%s has not reported its status for over a minute.",
    "node.silent.recommendation": "Check the supervisor's log on %s.",
    "record.unreadable": "The record under %s in the store cannot be read.",
    "record.unreadable.recommendation": (
        "It counts as unknown. `vcha node store list DIRECTORY` on a data node says why; `vcha"
        " node store set-aside DIRECTORY %s` moves it out of the way and keeps it."
    ),
    "background.failing": "Background work on the active node keeps failing: %s (%s).",
    "background.failing.recommendation": (
        "It is restarted automatically. The service's log on the active node says why it fails:"
        " search for %s."
    ),
    "patroni.settings.unfit": "Patroni's settings do not fit the mode %s, which requires %s.",
    "patroni.settings.unfit.recommendation": (
        "A failed undeploy or change of the mode left them behind: start it again."
    ),
    "patroni.setting.refused": (
        "Patroni's configuration in the store holds settings that the nodes refuse: %s."
    ),
    "patroni.setting.refused.recommendation": (
        "Somebody with a node's certificate wrote it, or a person by mistake: find out who. To"
        " remove the settings, write the configuration without them."
    ),
    "record.forged": "A record in the store was not written by a data node and is ignored: %s.",
    "record.forged.recommendation": (
        "Somebody has a node's certificate, or changed the store by hand: find out who. If a node"
        " was stolen, undeploy and deploy again. `vcha node store set-aside DIRECTORY %s` removes"
        " the record."
    ),
    "roll.older": (
        "The store holds an older state of users and join tokens than this node has seen. Those"
        " that differ are ignored."
    ),
    "roll.older.recommendation": (
        "Somebody restored an old state of the store: find out who. If a node was stolen,"
        " undeploy and deploy again. If you restored it yourself, check `vcha node store list"
        " DIRECTORY` on the active node, then run `vcha node store accept DIRECTORY`."
    ),
    "failover.mode.maintenance": "Automatic failover is off: the cluster's mode is MAINTENANCE.",
}
"""Mostly ``NAME.recommendation`` is the advice for ``NAME``; some reasons share one."""

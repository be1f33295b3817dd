"""The cluster's health: each reason, with its remedy."""

HEALTH = {
    "no.active": "No node is active: nothing accepts writes.",
    "active.stranger": (
        "%s leads but is no longer part of this cluster: writes to it are not protected."
    ),
    "active.stranger.recommendation": (
        "Fail over with planned=false, or shut down the node %s. If no node becomes active, run"
        " `vcha node promote` on a data node of this cluster; it shows what may be lost."
    ),
    "active.stranger.maintenance.recommendation": (
        "Shut down the node %s, and run `vcha node promote` on a data node of this cluster; it"
        " shows what may be lost. In the mode MAINTENANCE a failover is not possible: no node is"
        " known to have every acknowledged row."
    ),
    "active.stranger.disabled.recommendation": (
        "Shut down the node %s and every other node but one data node, the witness too, and run"
        " `vcha node make-standalone` on that one; it shows what may be lost. In the mode DISABLED"
        " neither a failover nor a promotion is possible."
    ),
    "active.no.vote": "The etcd member of the active node %s does not vote.",
    "active.no.vote.recommendation": "Check the etcd log on %s.",
    "no.active.recommendation": "Wait for a failover; if none happens, check the nodes' logs.",
    "address.nobody": (
        "Nobody holds the public address %s: clients reach neither the database nor the API of the"
        " active node %s."
    ),
    "address.nobody.recommendation": (
        "%s takes it again by itself. If it does not, search its log for the reason, or fail over."
    ),
    "address.cannot": (
        "Nobody holds the public address %s: the active node %s cannot take it (%s)."
    ),
    "address.cannot.recommendation": (
        "Remove the cause; %s keeps trying. If that takes long, fail over."
    ),
    "address.conflict": (
        "Another machine answers for the public address %s: the one with the MAC address %s."
        " Clients may reach it instead of the active node %s."
    ),
    "address.conflict.recommendation": (
        "Find the machine with the MAC address %s, and remove the address %s from it."
    ),
    "address.passive": (
        "%s could not hold the public address %s as the active: no client would reach it (%s)."
    ),
    "address.passive.recommendation": (
        "Start the helper of %s on the machine of %s; it also needs that interface to be up."
    ),
    "node.lost": ("The %s node %s does not vote: its etcd member does not respond or was removed."),
    "node.missing": "The cluster has no %s node.",
    "node.redeploy.recommendation": "Start the %s node again, or redeploy it.",
    "node.removed.recommendation": (
        "Redeploy the %s node: its vote was removed, so starting it again does not help."
    ),
    "replication.stopped": "Replication to %s has stopped.",
    "replication.stopped.recommendation": "Check the logs of %s, or redeploy it.",
    "replication.not.in.sync": (
        "%s is receiving changes but is not in sync yet: it must not take over."
    ),
    "replication.not.in.sync.recommendation": "Wait until %s has caught up.",
    "replication.lagging": "%s is %s bytes and %s s behind the active node.",
    "replication.lagging.recommendation": (
        "Wait until %s has caught up; if it does not, check its disk, network and long queries."
    ),
    "quorum.no.margin": (
        "The loss of one more node would stop the cluster: only %s of %s voters respond."
    ),
    "quorum.no.margin.recommendation": "Start the lost node again, or redeploy it.",
    "store.full": (
        "The store is full (%s of %s bytes): logins, changes and failovers are not possible."
    ),
    "store.full.recommendation": (
        "A data node defragments it automatically. If that does not help, run `vcha node store"
        " defragment DIRECTORY` on a data node; it shows how much space is left."
    ),
    "store.filling": (
        "The store is filling up: %s %% of its quota (%s of %s bytes on %s, %s in use)."
    ),
    "store.filling.recommendation": (
        "Find out what writes so much (`vcha audit`). `vcha node store defragment DIRECTORY` on a"
        " data node frees space."
    ),
    "versions.differ": "The nodes run different versions of %s: %s.",
    "versions.differ.recommendation": "Install the same version of %s on all nodes.",
    "etcd.old": "%s runs etcd %s at an address that other machines can reach: %s.",
    "etcd.old.recommendation": (
        "Install etcd 3.5.3 or newer on the host of %s, and restart the node."
    ),
    "failover.address": "After a failover to %s, clients must connect to %s instead of %s.",
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
        "Install a new tls/api.crt and its key on %s. The API loads them when it next starts"
        " serving; if this node is already active, restart it or fail over."
    ),
    "clock.skew": "The clock of %s differs from the active node's by %s s.",
    "clock.skew.recommendation": "Synchronize %s with a time server (NTP).",
    "node.silent": "%s has not reported its status for over a minute.",
    "node.silent.recommendation": "Check the supervisor's log on %s.",
    "deletion.owed": "%s (%s) was removed from the cluster, but is not deleted yet: %s",
    "deletion.owed.recommendation": (
        "Bring the host of %s (%s) back: the cluster then deletes what is left on it. If the host"
        " is lost for good, delete the VM in the infrastructure."
    ),
    "record.unreadable": "The record %s in the store cannot be read.",
    "record.unreadable.recommendation": (
        "Its value counts as unknown. On a data node, `vcha node store list DIRECTORY` shows why,"
        " and `vcha node store set-aside DIRECTORY %s` moves the record out of the way and keeps a"
        " copy."
    ),
    "background.failing": "Background work on the active node keeps failing: %s (%s).",
    "background.failing.recommendation": (
        "It is restarted automatically. To see why it fails, search the service's log on the active"
        " node for %s."
    ),
    "patroni.settings.unfit": "Patroni's settings do not match the mode %s, which requires %s.",
    "patroni.settings.unfit.recommendation": (
        "A failed undeploy or mode change left these settings behind. Run that operation again."
    ),
    "leader.ttl.differs": (
        "The ttl in Patroni's configuration is %s s, but node.json on the active node says %s s."
    ),
    "leader.ttl.differs.recommendation": (
        "Set timers.leader_ttl in node.json of each node to Patroni's ttl, and restart the nodes:"
        " this is how long they wait before they power on an active that a running task needs."
    ),
    "patroni.setting.refused": (
        "Patroni's configuration in the store holds settings that the nodes refuse: %s."
    ),
    "patroni.setting.refused.recommendation": (
        "Somebody used a node's certificate to write them, or wrote them by mistake: find out who."
        " To remove them, write the configuration without them."
    ),
    "record.forged": "A record in the store was not written by a data node and is ignored: %s.",
    "record.forged.recommendation": (
        "Somebody has a node's certificate, or changed the store by hand: find out who. If a node"
        " was stolen, undeploy and deploy again. `vcha node store set-aside DIRECTORY %s` removes"
        " the record."
    ),
    "roll.older": (
        "The users and join tokens in the store are older than those this node has seen. Those that"
        " differ are ignored."
    ),
    "roll.older.recommendation": (
        "Somebody restored an old state of the store: find out who. If a node was stolen,"
        " undeploy and deploy again. If you restored it yourself, check `vcha node store list"
        " DIRECTORY` on the active node, then run `vcha node store accept DIRECTORY`."
    ),
}
"""Mostly ``NAME.recommendation`` is the advice for ``NAME``; some reasons share one."""

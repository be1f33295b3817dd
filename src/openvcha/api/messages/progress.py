"""A running operation: what it does, what it waits for, and why it failed."""

PROGRESS = {
    "progress.mode": "Waiting for the nodes to apply the new mode (%s %s).",
    "progress.mode.detach": "Waiting until %s can no longer take over.",
    "progress.mode.stop": "Waiting for PostgreSQL on %s to stop.",
    "progress.mode.sync": "Waiting for %s to be in sync.",
    "failover.unprepared": "%s cannot be prepared for the failover: %s",
    "failover.replay.held": (
        "On %s, the session with process id %s (user %s, application %s, since %s) holds up replay."
        " End it there with SELECT pg_terminate_backend(%s), or fail over with planned=false, which"
        " ends it."
    ),
    "failover.replay.delayed": (
        "%s delays replay by %s. Run ALTER SYSTEM RESET recovery_min_apply_delay and"
        " SELECT pg_reload_conf() there, or fail over with planned=false, which ends the delay."
    ),
    "progress.failover.replay": "%s has %s bytes left to replay.",
    "progress.failover.prepare": "%s is writing a checkpoint.",
    "progress.failover.switch": "Waiting for %s to lead.",
    "progress.failover.writable": "Waiting for %s to accept writes.",
    "last.copy": "%s may hold the last copy of the data, because %s is not running as primary.",
    "wait.timeout": "Timed out after %s seconds; see the next message for the last state.",
    "progress.copy.again": "The copy to %s failed and is being retried: %s",
    "copy.failed": "The data could not be copied to %s: %s",
    "copy.stalled": "The copy to %s made no progress for %s seconds.",
    "fence.powered.on": "Waiting for %s to be powered off.",
    "fence.still.votes": "Waiting for %s to lose its vote.",
    "fence.still.in.sync": "Waiting until %s can no longer take over.",
    "fence.still.answers": "Waiting for %s (%s) to stop responding; power it off.",
    "fence.silence": "Making sure that %s (%s) is off: it must not respond for %s seconds.",
    "fence.unreachable": "%s cannot be powered off, because its host does not respond. %s",
    "progress.check": "Checking.",
    "progress.fence": "Making sure that %s has no vote and is off.",
    "progress.clone": "Creating %s.",
    "progress.bootstrap": "Waiting for %s to join: %s.",
    "progress.promote": "Waiting for %s to vote.",
    "progress.rely": "Waiting for %s to record which nodes the store needs.",
    "progress.rely.disk": "%s cannot record which nodes the store needs: %s.",
    "commit.left": (
        "VM %s (%s) of the replaced node was left behind; the cluster keeps trying to delete it."
        " The reason: %s"
    ),
    "commit.owed": (
        "VM %s (%s) of the replaced node is left on a host that does not respond; it is deleted as"
        " soon as the host responds again. Until then the credentials in it stay valid; an"
        " undeploy revokes them."
    ),
    "clone.owed": (
        "VM %s (%s) is left on a host that does not respond; it is deleted as soon as the host"
        " responds again."
    ),
    "clone.stopping": "Waiting for the creation %s to stop.",
    "clone.left": "VM %s (%s) was left behind.",
    "clone.left.votes": (
        "VM %s (%s) was left behind and still has a vote; keep it running until a deployment"
        " replaces it."
    ),
    "progress.copy.starting": "Waiting for %s to start copying the data.",
    "progress.copy.unmeasured": "Copying the data: %s of %s.",
    "progress.copy": "Copying the data: %s of %s, %s/s, %s left.",
    "progress.join.catching.up": "Waiting for PostgreSQL on %s to start streaming.",
    "progress.join.start.failed": "PostgreSQL fails to start on %s: %s",
    "progress.join.not.streaming": "PostgreSQL on %s is not streaming yet: %s",
    "join.start.failed": "PostgreSQL failed to start on %s %s times for the same reason: %s",
    "join.start.line": "PostgreSQL on %s: %s",
    "progress.address.unknown": (
        "Waiting until %s reports that it holds the public address, at which clients connect."
    ),
    "progress.address.no.leader": "Waiting for a node to lead and to take the public address.",
    "progress.join.sync": "Waiting until %s can take over.",
    "progress.commit": "Adding %s to the cluster configuration.",
    "progress.vote": "Removing %s from the quorum.",
    "progress.release": "Waiting until commits no longer depend on the passive node.",
    "progress.protect": "Waiting for Patroni to restore the cluster's settings.",
    "progress.disarm": "Erasing keys, passwords and identities on the VMs that are kept.",
    "progress.renew": "Rotating the node authority, certificates and passwords.",
    "progress.renew.hindered": "Waiting: %s",
    "progress.renew.patroni": "Waiting until Patroni can do without the store for a moment.",
    "credentials.pending": (
        "The node authority, certificates and passwords are being rotated; try again when that is"
        " done."
    ),
    "progress.alone": "Reducing the cluster to the active node.",
}

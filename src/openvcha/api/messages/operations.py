"""Operations on the cluster: what they are called, and why one is refused."""

OPERATIONS = {
    "cluster.not.configured": "There is no cluster yet; deploy one first.",
    "cluster.exists": "The cluster is deployed already.",
    "cluster.prepared": (
        "The cluster is prepared: let its nodes join (`vcha node create`), or undeploy it."
    ),
    "cluster.no.configuration": "This node has not written the cluster's configuration yet.",
    "cluster.failover": "Make the passive node the active one.",
    "cluster.failover.forced": "Make the passive node the active one at once.",
    "passive.redeploy": "Redeploy the passive node.",
    "witness.redeploy": "Redeploy the witness node.",
    "cluster.deploy": "Deploy the cluster.",
    "passive.healthy": "The passive node %s is up and in sync; there is nothing to replace.",
    "witness.healthy": "The witness node %s is up; there is nothing to replace.",
    "node.unsure": "The %s node %s has just missed an answer; try again in some seconds.",
    "passive.unready": (
        "The passive node %s answers, and has not been out of sync for %s seconds yet; it may be"
        " catching up. Try again later."
    ),
    "active.unmanaged": "The active node %s is not managed here: there is no virtual machine %s.",
    "active.is": "%s is the active node now.",
    "active.elsewhere": (
        "The active node %s keeps data outside of its own datastore: %s. Move them into its"
        " directory; only what is there is cloned."
    ),
    "no.majority": "Without the vote of %s the rest is no majority: first start %s again.",
    "failover.mode.disabled": "Failover is switched off: the cluster's mode is DISABLED.",
    "failover.node.lost": "A failover needs all three nodes, and one is lost.",
    "failover.stranger.planned": (
        "%s leads, and is no node of this cluster any more: it prepares nothing. Fail over with"
        " planned=false."
    ),
    "failover.stranger.unproven": (
        "%s leads, and is no node of this cluster any more, but no data node of it is known to have"
        " every row that was acknowledged: rows may be lost. Which, and how to go on all the same,"
        " says `vcha node promote` on the data node that is to be the active one."
    ),
    "failover.passive.not.ready": "The passive node has not everything that the active has.",
    "mode.set": "Change the mode to %s.",
    "mode.same": "The mode is %s already.",
    "mode.change.never": "The mode %s cannot become %s; set ENABLED in between.",
    "mode.unhealthy": "This change of the mode needs a healthy cluster: %s",
    "mode.versions": "This change of the mode needs the same versions on all nodes: %s",
    "mode.passive.silent": "The passive node %s does not answer; start it before ENABLED.",
    "mode.changed": "The mode has become %s meanwhile; look, and try again.",
    "passive.detached": (
        "The passive node %s is up and only stopped by the mode DISABLED; set ENABLED, or end the"
        " node before you replace it."
    ),
    "check.refused": "The request cannot be carried out as it stands.",
    "check.duplicate.name": "%s: both nodes cannot have the name %s; choose another.",
    "check.not.self.managed": "vc_spec is not set, and this cluster does not manage itself.",
    "deploy.placement.unset": "%s must be set for an automatic deployment.",
    "deploy.placement.set": "%s must not be set for a manual deployment: give none, or AUTO.",
    "deploy.remains": "An earlier deployment failed half-way and left these nodes: %s.",
    "deploy.active.network": "%s: the active node is in network %s; give that, or none.",
    "deploy.active.ha": "%s: the active node's HA address is %s and cannot be changed; give that.",
    "cluster.undeploy": "Undeploy the cluster.",
    "undeploy.vm.unknown": "%s: there is no virtual machine %s.",
    "undeploy.vm.other": "%s: %s is not the virtual machine of the %s node; give that.",
    "undeploy.vm.uuid": "%s: this is not the BIOS UUID of %s; give that, as cluster.get has it.",
}

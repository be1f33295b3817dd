"""Operations on the cluster: their names, and the reasons to refuse one."""

OPERATIONS = {
    "cluster.not.configured": "There is no cluster yet; deploy one first.",
    "cluster.exists": "The cluster is already deployed.",
    "cluster.prepared": (
        "The cluster is prepared; join its nodes (`vcha node create`) or undeploy it."
    ),
    "cluster.failover": "Make the passive node the active one.",
    "cluster.failover.forced": "Make the passive node the active one immediately.",
    "passive.redeploy": "Redeploy the passive node.",
    "witness.redeploy": "Redeploy the witness node.",
    "cluster.deploy": "Deploy the cluster.",
    "passive.healthy": "The passive node %s is up and in sync; there is nothing to replace.",
    "witness.healthy": "The witness node %s is up; there is nothing to replace.",
    "node.unsure": (
        "The %s node %s missed its last probe and may still be up; try again in a few seconds."
    ),
    "passive.unready": (
        "The passive node %s responds and has been out of sync for less than %s seconds; it may be"
        " catching up. Try again later."
    ),
    "active.unmanaged": "The active node %s is not managed here: there is no virtual machine %s.",
    "active.is": "%s is now the active node.",
    "active.elsewhere": (
        "The active node %s keeps data outside its own datastore: %s. Move the data into the node's"
        " directory; only that directory is copied."
    ),
    "no.majority": "Removing the vote of %s would lose quorum; start %s first.",
    "failover.mode.disabled": "Failover is disabled: the cluster's mode is DISABLED.",
    "failover.node.lost": "A failover needs all three nodes; one of them does not vote.",
    "failover.stranger.planned": (
        "%s leads but is no longer part of this cluster, so it cannot prepare a planned failover."
        " Fail over with planned=false."
    ),
    "failover.stranger.unproven": (
        "%s leads but is no longer part of this cluster, and no data node is known to have every"
        " acknowledged row: rows may be lost. Run `vcha node promote` on the data node that is to"
        " become active; it shows what may be lost, and how to proceed anyway."
    ),
    "failover.passive.not.ready": "The passive node is not in sync.",
    "mode.set": "Change the mode to %s.",
    "mode.same": "The mode is already %s.",
    "mode.change.never": "The mode cannot change from %s to %s directly; set ENABLED first.",
    "mode.unhealthy": "This mode change needs a healthy cluster: %s",
    "mode.versions": "This mode change needs the same versions on all nodes: %s",
    "mode.passive.silent": "The passive node %s does not respond; start it before you set ENABLED.",
    "mode.changed": "The mode changed to %s in the meantime; check it and try again.",
    "passive.detached": (
        "The passive node %s is up; only its database is stopped, by the mode DISABLED. Set"
        " ENABLED, or shut the node down before you replace it."
    ),
    "check.refused": "The request has errors, listed in the next messages.",
    "check.duplicate.name": "%s: the passive is already named %s; choose another name.",
    "deploy.placement.unset": "%s must be set for an automatic deployment.",
    "deploy.placement.set": (
        "%s must not be set for a manual deployment; remove it, or choose AUTO."
    ),
    "deploy.remains": "An earlier deployment failed halfway and left these nodes behind: %s.",
    "deploy.active.network": "%s: the active node is in network %s; use that, or omit it.",
    "deploy.active.ha": "%s: the active node's HA address is %s and cannot be changed; use that.",
    "cluster.undeploy": "Undeploy the cluster.",
    "undeploy.left": (
        "VM %s (%s) was left behind; the cluster keeps trying to delete it. The reason: %s"
    ),
    "undeploy.owed": (
        "VM %s (%s) is left on a host that does not respond; it is deleted as soon as the host"
        " responds again."
    ),
    "undeploy.unreachable": (
        "VM %s (%s) is on a host that does not respond, so its keys and passwords were not erased;"
        " they no longer give access to anything."
    ),
    "undeploy.vm.unknown": "%s: there is no virtual machine %s.",
    "undeploy.vm.other": "%s: %s is not the virtual machine of the %s node; use that one.",
    "undeploy.vm.uuid": "%s: this is not the BIOS UUID of %s; use the one that cluster.get shows.",
}

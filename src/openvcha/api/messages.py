"""The catalogue of messages: every text that a caller may read, by its id.

Ids of our own stand here without their prefix, one table for each subject; `%s` takes an argument.
"""

from collections.abc import Mapping
from types import MappingProxyType

from openvcha.api.cut import LONGEST_SHOWN, cut
from openvcha.api.structures.std import LocalizableMessage

PREFIX = "com.vmware.vcenter.vcha."

# Ids known from real systems; the texts are ours.
_KNOWN = {
    "com.vmware.vapi.endpoint.method.authentication.required": "Log in first.",
    "vapi.security.authentication.invalid": "The user name or the password is wrong.",
    "vapi.security.authorization.invalid": "The user lacks the privilege %s.",
    "com.vmware.vapi.rest.httpNotFound": "There is nothing at %s.",
    "vapi.method.input.invalid.interface": "There is no service %s.",
    "vapi.method.input.invalid.method": "There is no operation %s in service %s.",
    "vapi.data.structure.field.unexpected": "%s is not a field of %s.",
    "vapi.data.structure.field.missing": "%s is missing.",
    "vapi.data.structure.field.invalid": "%s is not valid.",
}

# Reading requests.
_DECODE = {
    "decode.too.large": "The request is larger than %s bytes.",
    "decode.encoding": "The request is not valid UTF-8.",
    "decode.syntax": "The request is not valid JSON: %s at character %s.",
    "decode.number": "The request holds a number that JSON does not have, or a too long one.",
    "decode.finite": "%s must be a finite number.",
    "decode.depth": "The request is nested deeper than %s levels.",
    "decode.duplicate": "%s is given more than once.",
    "decode.type": "%s must be %s, not %s.",
    "decode.wrapper": "%s must be an object with the single key %s.",
    "decode.name": "%s must be an object with a single key, the name of the structure.",
    "decode.entry": "%s must be an entry of a map: its key and its value.",
    "decode.structure": "%s must be the structure %s, not %s.",
    "decode.text": "%s holds characters that are not valid Unicode.",
    "decode.enum": "%s must be one of %s.",
    "decode.range": "%s must be an integer from %s to %s.",
    "decode.time": "%s must be a time as 2026-01-31T12:00:00Z.",
    "decode.union.missing": "%s must be set when %s is %s.",
    "decode.union.extra": "%s must not be set when %s is %s.",
    "decode.query.repeated": "The query parameter %s is given more than once.",
}

# The protocols, sessions and users.
_PROTOCOL = {
    "operation.unsupported": "%s is not supported yet.",
    "operation.unknown": "There is no such operation: %s. At this path there are: %s.",
    "operation.unknown.task": (
        "%s runs as a task only: say vmw-task=true in the query, and follow the task."
    ),
    "internal.error": "Something went wrong inside; the log has more under operation id %s.",
    "content.type": "A body must be application/json, not %s.",
    "content.charset": "A body in the charset %s is not taken: send UTF-8.",
    "content.encoding": "A body with Content-Encoding %s is not taken: send it plain or with gzip.",
    "content.gzip": "The body is not what Content-Encoding gzip says: it cannot be unpacked.",
    "request.malformed": "The request is not valid HTTP.",
    "request.gone": "The client closed the connection before its request was complete.",
    "request.slow": "The request did not arrive within %s seconds.",
    "request.repeated": "The request has %s %s times; send it once.",
    "request.flag": "The query has %s=%s; it must be true or false.",
    "request.target": "The %s of the request is not UTF-8 where it is quoted by %% signs.",
    "store.unavailable": "The store of the cluster cannot be reached now; try again.",
    "store.is.full": (
        "The store of the cluster is full, so nothing can be written, and nothing was. It is given"
        " room by `vcha node store defragment DIRECTORY` on a data node."
    ),
    "store.refused": "The store of the cluster refused it: %s.",
    "store.unreadable": (
        "What the store of the cluster holds under %s cannot be read; the log has more under"
        " operation id %s. On a data node `vcha node store set-aside` takes it out of the way."
    ),
    "users.busy": "Too many passwords are being looked at; try again soon.",
    "sessions.too.fast": "More than %s sessions of one user in a minute; use one for many calls.",
    "store.outcome.unknown": "The store was lost on the way: whether it was done is unknown.",
    "server.stopping": "The server stops; whether it was done is unknown.",
    "users.exists": "The user %s exists already.",
    "users.unknown": "There is no user %s.",
    "users.last": (
        "%s is the last user with the role Administrator; without one, nobody could change"
        " anything. First add another one: `vcha user add NAME --role Administrator`."
    ),
    "users.name": (
        "A user name has 1 to %s printable characters, no colon and no slash; a backslash stands"
        " between a domain and a name only."
    ),
    "users.password": "A password has %s to %s characters.",
    "users.throttled": "Too many wrong passwords in a row; try again in %s seconds.",
}

# Tasks.
_TASK = {
    "task.not.found": "There is no task %s.",
    "task.filter.empty": "At least one of tasks and services must be given.",
    "task.filter.too.many": "More than %s tasks match; narrow the filter.",
    "task.not.cancelable": "Task %s cannot be canceled.",
    "task.canceled": "The task was canceled.",
    "task.busy": "Operation %s is running as task %s.",
    "task.concurrent": "The cluster changed while the request was checked; try again.",
    "task.forged": "Task %s was not written by a node of this cluster that holds data.",
    "task.unreadable": "The record of task %s cannot be read; the log has more.",
    "task.finished": "Task %s has ended already: %s.",
    "task.cancel.never": "Operation %s cannot be stopped once it was accepted.",
    "task.cancel.step": "Step %s must not be interrupted; try again when it is over.",
    "task.cancel.undoing": "The task is being undone already.",
    "task.step": "Step %s of %s: %s.",
    "task.step.limit": "Step %s did not end within %s seconds.",
    "task.step.patience": "Step %s was tried for %s seconds; the last reason is the next message.",
    "task.succeeded": "Done.",
    "task.undoing": "Undoing step %s.",
    "task.undo.failed": "Step %s could not be undone; the reason is the next message.",
    "task.arguments.large": "The arguments have %s bytes; a task keeps at most %s.",
    "task.undo.unknown": "Step %s was not undone: this version does not know it.",
    "task.left": "These steps are left as they are: %s.",
    "task.standalone": "The task ended with its cluster: node %s was made stand-alone.",
    "task.plan.unknown": "This version does not know how to carry out %s.",
    "task.error.large": "The error was too large to be kept; the log has it.",
}

# The cluster and its operations.
_CLUSTER = {
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
    "active.unmanaged": "The active node %s is not managed here: there is no virtual machine %s.",
    "active.is": "%s is the active node now.",
    "active.elsewhere": (
        "The active node %s keeps data outside of its own datastore: %s. Move them into its"
        " directory; only what is there is cloned."
    ),
    "no.majority": "Without the vote of %s the rest is no majority: first start %s again.",
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
    "failover.mode.disabled": "Failover is switched off: the cluster's mode is DISABLED.",
    "failover.mode.maintenance": "No failover by itself: the cluster's mode is MAINTENANCE.",
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
    "progress.mode": "Waiting until the nodes go by the new mode (%s %s).",
    "progress.mode.detach": "Waiting until %s may no longer take over.",
    "progress.mode.stop": "Waiting until PostgreSQL on %s has stopped.",
    "progress.mode.sync": "Waiting until %s is in sync.",
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
    "progress.failover.prepare": "%s writes out what it holds in memory.",
    "progress.failover.switch": "Waiting until %s leads.",
    "progress.failover.writable": "Waiting until %s takes writes.",
    "last.copy": "%s may hold the last copy of the data: %s is not a running primary.",
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
    "wait.timeout": "Gave up after %s seconds; the last state is the next message.",
    "progress.copy.again": "The copy to %s failed and is tried again: %s",
    "copy.failed": "The data could not be copied to %s: %s",
    "copy.stalled": "The copy to %s made no progress for %s seconds.",
    "fence.powered.on": "Waiting until %s is off.",
    "fence.still.votes": "Waiting until %s has no vote.",
    "fence.still.in.sync": "Waiting until %s may no longer take over.",
    "fence.still.answers": "Waiting until %s at %s answers no more: switch it off.",
    "fence.silence": "Making sure that %s at %s is off: it has to be silent for %s seconds.",
    "progress.check": "Checking.",
    "progress.fence": "Making sure that %s is off and has no vote.",
    "progress.clone": "Creating %s.",
    "progress.promote": "Waiting until %s votes.",
    "progress.rely": "Waiting until %s has noted which nodes the store needs.",
    "progress.rely.disk": "%s cannot write down which nodes the store needs: %s.",
    "clone.left": "VM %s (%s) is left.",
    "clone.left.votes": "VM %s (%s) is left and votes: keep it on until a deployment replaces it.",
    "progress.copy.starting": "Waiting until %s begins to copy the data.",
    "progress.copy.unmeasured": "Copying the data: %s of %s.",
    "progress.copy": "Copying the data: %s of %s, %s/s, %s left.",
    "progress.join.catching.up": "Waiting until %s starts and streams.",
    "setting.overridden": "%s on %s is %s, set in %s; the cluster sets it itself.",
    "setting.overridden.recommendation": (
        "On %s, run as a superuser: ALTER SYSTEM RESET %s; SELECT pg_reload_conf();"
    ),
    "setting.elsewhere.recommendation": (
        "On %s, take %s out of %s, then run SELECT pg_reload_conf();"
    ),
    "setting.of.role": "On %s, a setting is stored for a role of the cluster: %s.",
    "setting.of.role.recommendation": "On the active node, run: ALTER ROLE %s RESET ALL;",
    "setting.early.commit": (
        "On %s, for %s synchronous_commit is %s: commits are acknowledged before the passive has"
        " them, and a failover may lose them."
    ),
    "setting.early.commit.recommendation": (
        "On the active node, run: ALTER %s RESET synchronous_commit;"
    ),
    "setting.differs": "The setting %s differs between the nodes: %s.",
    "setting.differs.recommendation": (
        "Compare %s in pg_settings on both nodes, and restart the one that waits for a restart."
    ),
    "check.setting": "%s It would be copied along. %s",
    "check.pending.restart": (
        "These settings of %s wait for a restart, and a new node starts with them: %s."
    ),
    "check.library.missing": (
        "The library %s, which %s loads at its next start, is not installed there: a new node would"
        " not start. Install it on all nodes, or take it out of the setting."
    ),
    "check.extension.missing": (
        "The extension %s of the database %s is not installed on %s: what needs it fails there, and"
        " on a new node that is like it."
    ),
    "check.function.missing": (
        "The library %s, which functions of the database %s are in, is not installed on %s: they"
        " fail there, and on a new node that is like it."
    ),
    "check.collation": (
        "The order of text on %s is of another version than the one that databases were made with:"
        " %s. Indexes on text may be wrong: run REINDEX DATABASE and ALTER DATABASE … REFRESH"
        " COLLATION VERSION for each."
    ),
    "collation.differs": (
        "The order of text on %s is of another version than the one that databases were made with:"
        " %s."
    ),
    "collation.differs.recommendation": (
        "Indexes on text may be wrong there. Install the same version of the C library, and of ICU,"
        " on %s and the other nodes. Then run REINDEX DATABASE and ALTER DATABASE … REFRESH"
        " COLLATION VERSION on the active node."
    ),
    "check.slot": (
        "The replication slot %s of %s is on that node only: after a failover it does not exist,"
        " and whoever uses it has to create it on the new active node."
    ),
    "slot.left.behind": "The replication slot %s on %s does not exist on the passive node.",
    "slot.left.behind.recommendation": (
        "Whoever uses %s has to create it again on the new active node after a failover. Drop it if"
        " nobody does: it keeps the write-ahead log from being removed."
    ),
    "check.postgres.silent": "The settings of PostgreSQL could not be checked: %s",
    "postgres.not.rejoining": "PostgreSQL on %s does not rejoin: %s",
    "postgres.not.rejoining.recommendation": (
        "Mend what PostgreSQL names. If %s cannot be rewound, its data are copied again by itself."
    ),
    "postgres.not.starting": "PostgreSQL does not start on %s: %s",
    "postgres.not.starting.recommendation": (
        "Mend what PostgreSQL names; a setting of postgresql.auto.conf that it refuses can be taken"
        " out of that file on %s. Or redeploy the node."
    ),
    "progress.join.start.failed": "PostgreSQL does not start on %s: %s",
    "progress.join.not.streaming": "PostgreSQL on %s does not stream yet: %s",
    "join.start.failed": "PostgreSQL failed to start on %s %s times for the same reason: %s",
    "join.start.line": "PostgreSQL on %s: %s",
    "progress.join.sync": "Waiting until %s may take over.",
    "progress.commit": "Making %s the cluster's.",
    "progress.vote": "Taking the vote of %s.",
    "progress.release": "Waiting until no commit waits for the passive node.",
    "progress.protect": "Waiting until Patroni has the settings of a cluster again.",
    "progress.disarm": "Emptying the key and password files of the nodes that are kept.",
    "progress.renew": "Making anew what lets a node in: its authority, certificate and passwords.",
    "progress.renew.hindered": "Waiting: %s",
    "undeploy.not.renewable": (
        "The passwords of the cluster's own roles cannot be changed on %s, which an undeploy ends"
        " with: %s"
    ),
    "progress.renew.patroni": "Waiting until Patroni can do without the store for a moment.",
    "credentials.pending": "What lets a node in is being made anew. Try again when that is over.",
    "progress.alone": "Making the active node a single one.",
    "progress.healthy": "Waiting until the cluster is healthy.",
}

# Events and the audit.
_EVENTS = {
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

# Nodes that join by a person's own means.
_JOINING = {
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

# Placements and addresses.
_PLACEMENT = {
    "placement.name.invalid": (
        "%s: %s is no usable name; take 1 to 80 ASCII letters, digits, spaces, '.', '_' or '-', "
        "beginning with a letter or digit."
    ),
    "placement.name.taken": "%s: the name %s belongs to %s; choose another name.",
    "placement.unknown": "%s: there is no %s in the inventory; choose one that is listed there.",
    "placement.unset": "%s: nothing is known to be used by default; set it.",
    "placement.folder.type": "%s: %s is a folder of type %s; choose one for virtual machines.",
    "placement.network.type.missing": "%s: give the type of network %s.",
    "placement.network.type.mismatch": "%s: %s is not the type of network %s; give %s.",
    "placement.network.same": (
        "%s: %s is also the management network; the two networks must be different."
    ),
    "placement.host.pool": (
        "%s: host %s does not belong to the resource pool; choose a host of the pool's cluster."
    ),
    "placement.host.disconnected": "%s: host %s is %s; reconnect it or choose another host.",
    "placement.host.off": "%s: host %s is powered off; power it on or choose another host.",
    "placement.host.maintenance": (
        "%s: host %s is in maintenance; end the maintenance or choose another host."
    ),
    "placement.host.network": (
        "%s: host %s does not reach network %s; choose another host or network."
    ),
    "placement.host.none": (
        "%s: no usable host of the resource pool reaches the networks and the datastore; "
        "connect a host, or choose other networks or another datastore."
    ),
    "placement.host.shared": (
        "%s: host %s carries another node of the cluster, both are lost with it; "
        "better choose another host."
    ),
    "placement.host.shared.chosen": (
        "%s: host %s carries another node of the cluster, both are lost with it, but there is "
        "no other usable host; add or connect a host."
    ),
    "placement.datastore.unreachable": (
        "%s: datastore %s is not reached from host %s; choose another datastore or host."
    ),
    "placement.datastore.none": "%s: host %s reaches no datastore; choose another host.",
    "placement.datastore.space": (
        "%s: datastore %s has %s bytes free and %s are needed; free space or choose another."
    ),
    "address.branch.missing": "%s: must be set when ip_family is %s.",
    "address.branch.other": "%s: must not be set when ip_family is %s.",
    "address.syntax": "%s: %s is not an IP address; give it without prefix, zone or port.",
    "address.family": "%s: %s is not an address of the family %s.",
    "address.prefix.missing": "%s: give prefix or subnet_mask.",
    "address.prefix.range": "%s: %s is no length of a prefix; give 1 to %s.",
    "address.prefix.network": "%s: the prefix %s is not that of the network, whose subnet is %s.",
    "address.mask": "%s: %s is not a subnet mask; give one such as 255.255.255.0.",
    "address.disagree": "%s: %s and the prefix %s do not agree; the mask has a prefix of %s.",
    "address.unusable": (
        "%s: %s cannot be the address of a host in %s; choose one that is neither the network's, "
        "a broadcast, multicast, link-local nor reserved address."
    ),
    "address.gateway.outside": "%s: %s is not in the subnet %s of the address; choose one inside.",
    "address.gateway.self": "%s: %s is the address itself; give the router's, or none.",
    "address.ha.family": (
        "%s: the HA address is %s and the management address is %s; both need the same family."
    ),
    "address.ha.subnet": (
        "%s: %s lies in the management subnet %s; HA addresses need a subnet of their own."
    ),
    "address.outside": "%s: %s is not in the network's subnet %s; choose an address inside.",
    "address.duplicate": "%s: %s is already the address of %s; choose another.",
    "address.taken": "%s: %s was given to the virtual machine %s; choose another.",
    "address.answering": "%s: somebody uses %s already; end that use or choose another.",
}

# The infrastructure that nodes live on.
_INFRASTRUCTURE = {
    "infrastructure.none": "There is no usable inventory at %s: %s.",
    "infrastructure.other": "The inventory at %s was made with other subnets: %s; use those.",
    "infrastructure.subnets": (
        "The subnets %s and %s cannot be used: both must be IPv4, inside 127.0.0.0/8, have at "
        "least four addresses, and not overlap."
    ),
    "infrastructure.unknown": "There is no %s in the inventory.",
    "inventory.too.many": "More than %s match; narrow the filter.",
    "infrastructure.vm.exists": "The name %s belongs to %s; choose another name.",
    "infrastructure.vm.name": "%s cannot be the name of a directory; choose another name.",
    "infrastructure.vm.directory": (
        "%s is there already and belongs to no virtual machine; move it away."
    ),
    "infrastructure.vm.deleting": "%s is being deleted; finish that first.",
    "infrastructure.vm.on": "%s is powered on; power it off first.",
    "infrastructure.vm.busy": "%s is being powered on or off, or deleted; try again after %s s.",
    "infrastructure.file.path": "%s is not a relative path inside the virtual machine.",
    "infrastructure.file.missing": "%s has no file %s.",
    "infrastructure.power.died": "%s ended as soon as it was powered on. Its last words: %s",
    "infrastructure.power.on.late": (
        "%s was not up within %s s and was powered off again. Its last words: %s"
    ),
    "infrastructure.power.off.late": "Processes of %s are still there after %s s: %s.",
    "infrastructure.ipv6": (
        "The local infrastructure has only the loopback address ::1 for IPv6; use IPv4 addresses."
    ),
}

# The peer that vc_spec names.
_PEER = {
    "peer.unverified": "The certificate of %s is not the expected one; its thumbprint is in data.",
    "peer.certificate.ambiguous": "Give ssl_thumbprint or ssl_certificate, not both.",
    "peer.certificate.malformed": "ssl_certificate is no PEM certificate.",
    "peer.thumbprint.malformed": (
        "ssl_thumbprint is neither SHA-1 (40 hexadecimal digits) nor SHA-256 (64)."
    ),
    "peer.hostname": "%s is neither a host name nor an IP address.",
    "peer.port": "%s is no TCP port; give 1 to 65535.",
    "peer.credentials.unset": "vc_spec.active_location.%s must be set.",
    "peer.not.manager": "%s does not manage the active node; name the vCenter that does.",
    "peer.unreachable": "%s cannot be reached: %s.",
    "peer.timeout": "%s did not answer within %s seconds.",
    "invalid.credentials": "%s refused the user name or the password.",
}


def _catalogue() -> Mapping[str, str]:
    texts = dict(_KNOWN)
    for subject in (
        _DECODE,
        _PROTOCOL,
        _TASK,
        _CLUSTER,
        _EVENTS,
        _JOINING,
        _PLACEMENT,
        _INFRASTRUCTURE,
        _PEER,
    ):
        for name, text in subject.items():
            if PREFIX + name in texts:
                raise ValueError(f"message {name} is defined twice")
            texts[PREFIX + name] = text
    return MappingProxyType(texts)


CATALOGUE = _catalogue()


def message(name: str, *arguments: object) -> LocalizableMessage:
    """A message of the catalogue, by its full id or, for ours, without the prefix.

    An argument may quote what a caller has sent: each is cut at ``LONGEST_SHOWN``.
    Raises KeyError for an unknown id and ValueError for a wrong number of arguments.
    """
    full = name if name in CATALOGUE else PREFIX + name
    text = CATALOGUE[full]
    texts = tuple(cut(str(argument), LONGEST_SHOWN) for argument in arguments)
    if text.replace("%%", "").count("%s") != len(texts):
        raise ValueError(f"message {full} takes other arguments than {len(texts)}")
    return LocalizableMessage(id=full, default_message=text % texts, args=texts)

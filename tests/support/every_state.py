"""What is allowed in every state and mode, and with which reason the rest is refused: as data.

The rules are held against it, and so is a real cluster in the states that it can be brought into.
"""

from openvcha.api.structures import ClusterMode
from openvcha.cluster import preconditions

PREFIX = "com.vmware.vcenter.vcha."
OPERATIONS = {
    "deploy": preconditions.DEPLOY,
    "undeploy": preconditions.UNDEPLOY,
    "failover": preconditions.FAILOVER,
    "passive": preconditions.REDEPLOY_PASSIVE,
    "witness": preconditions.REDEPLOY_WITNESS,
}
MODES = {mode.value.lower(): mode for mode in ClusterMode}
ALLOWED = "-"


def expected(state: str, mode: str) -> list[str]:
    """Return the row of a state in a mode; before there is a cluster the mode does not matter."""
    row = TABLE[state]
    return row[""] if "" in row else row[mode]


# In the order of OPERATIONS, then the mode to each of MODES: ENABLED, DISABLED, MAINTENANCE.
NONE = "cluster.not.configured"
PREPARED = "cluster.prepared"
STRANGER = {
    "enabled": [
        "cluster.exists",
        "active.stranger",
        "failover.stranger.unproven",
        "active.stranger",
        "active.stranger",
        "mode.same",
        "active.stranger",
        "active.stranger",
    ],
    "maintenance": [
        "cluster.exists",
        "active.stranger",
        "failover.stranger.unproven",
        "active.stranger",
        "active.stranger",
        "active.stranger",
        "active.stranger",
        "mode.same",
    ],
    "disabled": [
        "cluster.exists",
        "active.stranger",
        "failover.mode.disabled",
        "active.stranger",
        "active.stranger",
        "active.stranger",
        "mode.same",
        "mode.change.never",
    ],
}
TABLE: dict[str, dict[str, list[str]]] = {
    "single": {"": ["-", *[NONE] * 7]},
    "prepared": {"": ["-", "-", *[PREPARED] * 6]},
    "one joined": {"": [PREPARED, "-", *[PREPARED] * 6]},
    "half deployed": {"": ["deploy.remains", "-", *[NONE] * 6]},
    "healthy": {
        "enabled": [
            "cluster.exists",
            "-",
            "-",
            "passive.healthy",
            "witness.healthy",
            "mode.same",
            "-",
            "-",
        ],
        "maintenance": [
            "cluster.exists",
            "-",
            "-",
            "passive.healthy",
            "witness.healthy",
            "-",
            "-",
            "mode.same",
        ],
        "disabled": [
            "cluster.exists",
            "-",
            "failover.mode.disabled",
            "passive.detached",
            "witness.healthy",
            "-",
            "mode.same",
            "mode.change.never",
        ],
    },
    "passive lost": {
        "enabled": [
            "cluster.exists",
            "-",
            "failover.node.lost",
            "-",
            "witness.healthy",
            "mode.same",
            "-",
            "mode.unhealthy",
        ],
        "maintenance": [
            "cluster.exists",
            "-",
            "failover.node.lost",
            "-",
            "witness.healthy",
            "mode.unhealthy",
            "mode.unhealthy",
            "mode.same",
        ],
        "disabled": [
            "cluster.exists",
            "-",
            "failover.mode.disabled",
            "-",
            "witness.healthy",
            "mode.unhealthy",
            "mode.same",
            "mode.change.never",
        ],
    },
    "witness lost": {
        "enabled": [
            "cluster.exists",
            "-",
            "failover.node.lost",
            "passive.healthy",
            "-",
            "mode.same",
            "-",
            "mode.unhealthy",
        ],
        "maintenance": [
            "cluster.exists",
            "-",
            "failover.node.lost",
            "passive.healthy",
            "-",
            "mode.unhealthy",
            "mode.unhealthy",
            "mode.same",
        ],
        "disabled": [
            "cluster.exists",
            "-",
            "failover.mode.disabled",
            "passive.detached",
            "-",
            "mode.unhealthy",
            "mode.same",
            "mode.change.never",
        ],
    },
    "not in sync": {
        "enabled": [
            "cluster.exists",
            "-",
            "failover.passive.not.ready",
            "-",
            "witness.healthy",
            "mode.same",
            "-",
            "mode.unhealthy",
        ],
        "maintenance": [
            "cluster.exists",
            "-",
            "failover.passive.not.ready",
            "-",
            "witness.healthy",
            "mode.unhealthy",
            "mode.unhealthy",
            "mode.same",
        ],
        "disabled": [
            "cluster.exists",
            "-",
            "failover.mode.disabled",
            "passive.detached",
            "witness.healthy",
            "-",
            "mode.same",
            "mode.change.never",
        ],
    },
    "a stranger leads": STRANGER,
    "a stranger leads in sync": {
        **STRANGER,
        "enabled": [
            "cluster.exists",
            "active.stranger",
            "-",
            "active.stranger",
            "active.stranger",
            "mode.same",
            "active.stranger",
            "active.stranger",
        ],
    },
    "nobody leads": {
        "enabled": [
            "cluster.exists",
            "no.active",
            "no.active",
            "no.active",
            "no.active",
            "mode.same",
            "no.active",
            "no.active",
        ],
        "maintenance": [
            "cluster.exists",
            "no.active",
            "no.active",
            "no.active",
            "no.active",
            "no.active",
            "no.active",
            "mode.same",
        ],
        "disabled": [
            "cluster.exists",
            "no.active",
            "no.active",
            "no.active",
            "no.active",
            "no.active",
            "mode.same",
            "mode.change.never",
        ],
    },
}

"""What each state and mode allows, and why the rest is refused, as data.

The rules are checked against it, and so is a real cluster in each state it can be brought into.
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
    """Return the row of a state in a mode; without a cluster the mode does not matter."""
    row = TABLE[state]
    return row[""] if "" in row else row[mode]


def _cluster(*, enabled: str, maintenance: str, disabled: str) -> dict[str, list[str]]:
    """Return the rows of a deployed cluster, which always refuses another deploy.

    Each row names: undeploy, failover, redeploy of the passive and of the witness, then the change
    to each of MODES: ENABLED, DISABLED, MAINTENANCE.
    """
    rows = {"enabled": enabled, "maintenance": maintenance, "disabled": disabled}
    return {mode: ["cluster.exists", *reasons.split()] for mode, reasons in rows.items()}


NONE = "cluster.not.configured"
PREPARED = "cluster.prepared"
UNPROVEN = "failover.stranger.unproven"
STRANGER = _cluster(
    enabled="active.stranger failover.stranger.unproven active.stranger active.stranger "
    "mode.same active.stranger active.stranger",
    maintenance="active.stranger failover.stranger.unproven active.stranger active.stranger "
    "active.stranger active.stranger mode.same",
    disabled="active.stranger failover.mode.disabled active.stranger active.stranger "
    "active.stranger mode.same mode.change.never",
)
# In the order of OPERATIONS, then of MODES.
TABLE: dict[str, dict[str, list[str]]] = {
    "single": {"": ["-", *[NONE] * 7]},
    "prepared": {"": ["-", "-", *[PREPARED] * 6]},
    "one joined": {"": [PREPARED, "-", *[PREPARED] * 6]},
    "half deployed": {"": ["deploy.remains", "-", *[NONE] * 6]},
    "healthy": _cluster(
        enabled="- - passive.healthy witness.healthy mode.same - -",
        maintenance="- - passive.healthy witness.healthy - - mode.same",
        disabled="- failover.mode.disabled passive.detached witness.healthy - mode.same "
        "mode.change.never",
    ),
    "passive lost": _cluster(
        enabled="- failover.node.lost - witness.healthy mode.same - mode.unhealthy",
        maintenance="- failover.node.lost - witness.healthy mode.unhealthy mode.unhealthy "
        "mode.same",
        disabled="- failover.mode.disabled - witness.healthy mode.unhealthy mode.same "
        "mode.change.never",
    ),
    "witness lost": _cluster(
        enabled="- failover.node.lost passive.healthy - mode.same - mode.unhealthy",
        maintenance="- failover.node.lost passive.healthy - mode.unhealthy mode.unhealthy "
        "mode.same",
        disabled="- failover.mode.disabled passive.detached - mode.unhealthy mode.same "
        "mode.change.never",
    ),
    "not in sync": _cluster(
        enabled="- failover.passive.not.ready - witness.healthy mode.same - mode.unhealthy",
        maintenance="- failover.passive.not.ready - witness.healthy mode.unhealthy "
        "mode.unhealthy mode.same",
        disabled="- failover.mode.disabled passive.detached witness.healthy - mode.same "
        "mode.change.never",
    ),
    "a stranger leads": STRANGER,
    "a stranger leads in sync": STRANGER
    | {"enabled": [ALLOWED if one == UNPROVEN else one for one in STRANGER["enabled"]]},
    "nobody leads": _cluster(
        enabled="no.active no.active no.active no.active mode.same no.active no.active",
        maintenance="no.active no.active no.active no.active no.active no.active mode.same",
        disabled="no.active no.active no.active no.active no.active mode.same mode.change.never",
    ),
}

"""The options of `vcha lab up` for the settings of a new lab; None leaves a setting as it is."""

import math
from typing import Annotated

import typer

from openvcha.node.identity import (
    MAX_API_WORKERS,
    MAX_LEADER_TTL,
    MAX_SECONDS,
    MAX_STOPPED_STORE,
    MIN_LEADER_TTL,
    MIN_REPLICATION_LAG,
    MIN_STOPPED_STORE,
    MIN_STUCK_STANDBY,
    ApiSettings,
    StoreLimits,
    Timers,
)

MIN_QUOTA_BYTES = 16 << 20
"""A lab writes a few megabytes while it is deployed."""
NEW_LAB = "Settings of a new lab"


def _no_nan(value: float | None) -> float | None:
    """Return an option's value; refuse "nan", which passes every comparison with a bound."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is not a number of seconds")
    return value


StoreQuota = Annotated[
    int | None,
    typer.Option(
        min=MIN_QUOTA_BYTES,
        help="The quota of the store, in bytes.",
        show_default=str(StoreLimits().quota_bytes),
        rich_help_panel=NEW_LAB,
    ),
]
LeaderTtl = Annotated[
    int | None,
    typer.Option(
        min=MIN_LEADER_TTL,
        max=MAX_LEADER_TTL,
        help="Seconds for which the leader key outlives its holder.",
        show_default=str(Timers().leader_ttl),
        rich_help_panel=NEW_LAB,
    ),
]
StuckAfter = Annotated[
    float | None,
    typer.Option(
        min=MIN_STUCK_STANDBY,
        max=MAX_SECONDS,
        callback=_no_nan,
        help="Seconds without progress after which a standby's data are copied again.",
        show_default=f"{Timers().stuck_standby:g}",
        rich_help_panel=NEW_LAB,
    ),
]
PeersAfter = Annotated[
    float | None,
    typer.Option(
        min=MIN_STOPPED_STORE,
        max=MAX_STOPPED_STORE,
        callback=_no_nan,
        help="Seconds without a store after which the nodes that a task needs are powered on.",
        show_default=f"{Timers().stopped_store:g}",
        rich_help_panel=NEW_LAB,
    ),
]
ApiWorkers = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=MAX_API_WORKERS,
        help="Processes that serve the API on each data node; 0: one for each two cores.",
        show_default=str(ApiSettings().workers),
        rich_help_panel=NEW_LAB,
    ),
]
LagAfter = Annotated[
    float | None,
    typer.Option(
        min=MIN_REPLICATION_LAG,
        max=MAX_SECONDS,
        callback=_no_nan,
        help="Lag in seconds from which the passive counts as lagging.",
        show_default=f"{Timers().replication_lag:g}",
        rich_help_panel=NEW_LAB,
    ),
]

"""The modes as data: the settings of each, and the changes that are allowed.

The settings in Patroni's dynamic configuration: PAUSE disables automatic failover, ALONE lets the
active run without the other nodes, DETACHED takes the standby out of service.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from openvcha.api.structures import ClusterMode
from openvcha.store.keys import ALONE, DETACHED, PAUSE

_ENABLED, _DISABLED = ClusterMode.ENABLED, ClusterMode.DISABLED
_MAINTENANCE = ClusterMode.MAINTENANCE

SETTINGS: Mapping[ClusterMode, frozenset[str]] = MappingProxyType(
    {
        _ENABLED: frozenset(),
        _MAINTENANCE: frozenset({PAUSE, ALONE}),
        _DISABLED: frozenset({PAUSE, ALONE, DETACHED}),
    }
)


class Requirement(Enum):
    """The state that a cluster must be in for a change of its mode."""

    AN_ACTIVE = "healthy or degraded"
    HEALTHY = "healthy"
    ALIKE = "healthy, and all nodes run the same versions"
    ALL_UP = "healthy, and the passive's Patroni answers"


CHANGES: Mapping[tuple[ClusterMode, ClusterMode], Requirement] = MappingProxyType(
    {
        (_ENABLED, _DISABLED): Requirement.AN_ACTIVE,
        (_ENABLED, _MAINTENANCE): Requirement.HEALTHY,
        (_DISABLED, _ENABLED): Requirement.ALL_UP,
        (_MAINTENANCE, _ENABLED): Requirement.ALIKE,
        (_MAINTENANCE, _DISABLED): Requirement.ALIKE,
    }
)
"""Any other change is refused."""

# While an automatic failover is possible, the active must not run alone, nor the standby stop.
_SWITCHED_ON = (PAUSE, ALONE, DETACHED)
# The pause ends last: an automatic failover must not leave an active that may still run alone, or
# promote a standby that is not in sync.
_SWITCHED_OFF = (ALONE, DETACHED, PAUSE)


def setting_changes(old: ClusterMode, new: ClusterMode) -> tuple[tuple[str, bool], ...]:
    """Return the settings to change, in order, each with its new value."""
    before, after = SETTINGS[old], SETTINGS[new]
    on = tuple((name, True) for name in _SWITCHED_ON if name in after - before)
    off = tuple((name, False) for name in _SWITCHED_OFF if name in before - after)
    return on + off

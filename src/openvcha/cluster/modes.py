"""The modes as data: what each one is made of, and which change is allowed when.

Of a mode's settings in Patroni's dynamic configuration, PAUSE lets nobody take over by itself,
ALONE lets the active go on without the others, DETACHED takes the standby out of service.
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


class Needs(Enum):
    """How well the cluster must be for a change of its mode."""

    AN_ACTIVE = "healthy or degraded"
    HEALTHY = "healthy"
    ALIKE = "healthy, and all nodes run the same versions"
    ALL_UP = "healthy, and the passive's Patroni answers"


CHANGES: Mapping[tuple[ClusterMode, ClusterMode], Needs] = MappingProxyType(
    {
        (_ENABLED, _DISABLED): Needs.AN_ACTIVE,
        (_ENABLED, _MAINTENANCE): Needs.HEALTHY,
        (_DISABLED, _ENABLED): Needs.ALL_UP,
        (_MAINTENANCE, _ENABLED): Needs.ALIKE,
        (_MAINTENANCE, _DISABLED): Needs.ALIKE,
    }
)
"""What is not here is never allowed."""

# Nobody goes on alone, and no standby ends, while another may still take over.
_SWITCHED_ON = (PAUSE, ALONE, DETACHED)
# The pause ends last: until then nobody takes over from an active that may go on alone, or with a
# standby that has not everything.
_SWITCHED_OFF = (ALONE, DETACHED, PAUSE)


def way(old: ClusterMode, new: ClusterMode) -> tuple[tuple[str, bool], ...]:
    """Return the settings to be changed, one after the other, each with what it becomes."""
    before, after = SETTINGS[old], SETTINGS[new]
    on = tuple((name, True) for name in _SWITCHED_ON if name in after - before)
    off = tuple((name, False) for name in _SWITCHED_OFF if name in before - after)
    return on + off

"""The measurement of a host: how long it counts, and when the host is lost. Pure."""

from typing import NamedTuple

from openvcha.infrastructure.hosts.orders import Space

SPACE_SECONDS = 15.0
"""How old a measurement of a host may be."""
AGAIN_SECONDS = 1.0
"""After how long a host is asked again that has failed to answer for the first time."""
LOST = 2
"""How many answers of a host must fail to come, in a row, until it is lost."""
QUICK_SECONDS = 3.0
"""How long others wait for a host that has answered, or is lost."""
BUSY_SECONDS = 10.0
"""A busy host, which has to start its agent, may take that long before it is lost."""


class Measurement(NamedTuple):
    """The last measurement of a host.

    ``silent`` counts how often in a row it has not answered since; a busy host may be late once.
    """

    at: float
    spaces: dict[str, Space]
    silent: int

    @property
    def valid(self) -> float:
        """Return for how many seconds it counts."""
        return AGAIN_SECONDS if self._in_doubt else SPACE_SECONDS

    @property
    def patience(self) -> float:
        """Return for how many seconds to wait for the next answer."""
        return BUSY_SECONDS if self._in_doubt else QUICK_SECONDS

    @property
    def responds(self) -> bool:
        """Return whether the host counts as one that responds."""
        return self.silent < LOST

    @property
    def _in_doubt(self) -> bool:
        return 0 < self.silent < LOST


NEVER = Measurement(float("-inf"), {}, LOST - 1)
"""That of a host that was never asked."""

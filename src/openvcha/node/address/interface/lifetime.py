"""How long the kernel may keep the public address: never longer than nobody else can lead. Pure.

All times are seconds of one clock, which also runs while the machine is suspended (`boot_time`).
docs/address.md derives the rule.
"""

import math
import time
from typing import Final

KERNEL_LATE_SECONDS: Final = 1.5
"""How late the kernel removes an address: 0.4 s in trials, and it checks at least each second."""
REFRESH_SECONDS: Final = 1.0
"""The pause between two refreshes."""
PROOF_SECONDS: Final = 1.0
"""The pause between two proofs that this node leads (daemon.leading.leadership.POLL_SECONDS)."""
LOOP_SECONDS: Final = 1.0
"""The pause between two renewals of the leader key by Patroni (its ``loop_wait``)."""
ROUNDING_SECONDS: Final = 1.0
"""The store tells the rest of a lease in whole seconds, rounded down."""
DELAY_SECONDS: Final = 1.5
"""What requests may take, on a busy machine."""
MARGIN_SECONDS: Final = (
    KERNEL_LATE_SECONDS
    + REFRESH_SECONDS
    + PROOF_SECONDS
    + LOOP_SECONDS
    + ROUNDING_SECONDS
    + DELAY_SECONDS
)
UNPROVEN: Final = -math.inf
"""The end of a proof that there is not."""


class UnsafeLifetimeError(ValueError):
    """With this lifetime, the kernel would remove the address of a healthy leader."""


def require_safe(lifetime: int, leader_ttl: int) -> None:
    """Raise UnsafeLifetimeError unless a leader can always refresh the whole lifetime in time."""
    if lifetime + MARGIN_SECONDS > leader_ttl:
        longest = math.floor(leader_ttl - MARGIN_SECONDS)
        raise UnsafeLifetimeError(
            f"the lifetime of the public address is {lifetime} s, but with a leader_ttl of"
            f" {leader_ttl} s it must be at most {longest} s"
        )


def lifetime_until(now: float, until: float, longest: int) -> int | None:
    """Return the whole seconds for which the address may be added or refreshed now.

    It is gone at ``until``, before which no other node can lead. None: not even for one second.
    """
    left = until - now - KERNEL_LATE_SECONDS
    return None if not left >= 1.0 else math.floor(min(left, float(longest)))


def boot_time() -> float:
    """Return the seconds since the machine started, with those in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

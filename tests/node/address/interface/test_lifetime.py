"""The lifetime of the public address: gone before another node can lead, kept by a healthy one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvcha.daemon.leading.leadership import POLL_SECONDS
from openvcha.node.address.interface.lifetime import (
    KERNEL_LATE_SECONDS,
    LOOP_SECONDS,
    MARGIN_SECONDS,
    PROOF_SECONDS,
    REFRESH_SECONDS,
    ROUNDING_SECONDS,
    UNPROVEN,
    UnsafeLifetimeError,
    lifetime_until,
    require_safe,
)
from openvcha.node.identity import MIN_LEADER_TTL
from openvcha.node.patroni import config
from openvcha.node.public_interface import MAX_ADDRESS_LIFETIME

times = st.floats(0, 1e9)


@given(now=times, left=st.floats(-1, 14), longest=st.integers(1, 10))
def test_it_is_gone_before_another_node_can_lead(now: float, left: float, longest: int) -> None:
    """However late the kernel is; and never longer than configured."""
    lifetime = lifetime_until(now, now + left, longest)
    if lifetime is None:
        assert left < 1.0 + KERNEL_LATE_SECONDS + 1e-6
    else:
        assert 1 <= lifetime <= longest
        assert now + lifetime + KERNEL_LATE_SECONDS <= now + left + 1e-6


@pytest.mark.parametrize("until", [UNPROVEN, math.nan, 0.0, -5.0])
def test_without_a_proof_there_is_no_lifetime(until: float) -> None:
    """Nothing is known, or what was known has ended."""
    assert lifetime_until(100.0, until, 6) is None


@pytest.mark.parametrize("lifetime", [1, 6, MAX_ADDRESS_LIFETIME])
def test_a_healthy_leader_refreshes_the_whole_lifetime(lifetime: int) -> None:
    """In the worst moment: just before the next proof, of a lease that was about to be renewed."""
    require_safe(lifetime, MIN_LEADER_TTL)
    proven = MIN_LEADER_TTL - LOOP_SECONDS - ROUNDING_SECONDS
    now = PROOF_SECONDS + REFRESH_SECONDS
    assert lifetime_until(now, proven, lifetime) == lifetime


def test_a_lifetime_that_is_too_long_is_refused() -> None:
    """The error says how long it may be."""
    with pytest.raises(UnsafeLifetimeError, match="at most 13 s"):
        require_safe(14, 20)
    require_safe(13, 20)
    assert MAX_ADDRESS_LIFETIME + MARGIN_SECONDS <= MIN_LEADER_TTL


def test_the_rule_counts_with_the_real_pauses() -> None:
    """Whoever changes one of them changes the rule."""
    assert PROOF_SECONDS == POLL_SECONDS
    assert LOOP_SECONDS == config.LOOP_SECONDS

"""Builders for observations: a healthy cluster of three, and its possible faults."""

import pytest
from tests.support.simulated.observations import World


@pytest.fixture
def world() -> World:
    return World()

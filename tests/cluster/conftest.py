"""Builders for observations: a healthy cluster of three, and what may be wrong with it."""

import pytest
from tests.support.simulated.observations import World


@pytest.fixture
def world() -> World:
    return World()

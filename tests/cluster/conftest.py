"""Builders for observations: a healthy cluster of three, and its possible faults."""

import pytest
from tests.support.simulated.observations import ObservationBuilder


@pytest.fixture
def world() -> ObservationBuilder:
    """Return a builder that starts from a healthy cluster."""
    return ObservationBuilder()

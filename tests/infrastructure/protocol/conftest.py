"""Each test of the protocol runs against every kind of infrastructure."""

import pytest
from tests.support.infrastructure_sites import LocalSite, SimulatedSite, Site
from tests.support.stand_in_processes import StandInProcesses

from openvcha.infrastructure.local.infrastructure import HostProbe, LocalInfrastructure
from openvcha.infrastructure.local.processes import DetachedStarter


@pytest.fixture(params=["local", "simulated"])
def site(
    request: pytest.FixtureRequest,
    infrastructure: LocalInfrastructure,
    processes: StandInProcesses,
    starter: DetachedStarter,
) -> Site:
    """Return a site of each kind in turn."""
    if request.param == "simulated":
        return SimulatedSite()
    machine = HostProbe(answers=lambda _: False)
    other = LocalInfrastructure(infrastructure.root, processes, starter, machine=machine)
    return LocalSite(infrastructure, other)

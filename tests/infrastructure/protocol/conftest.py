"""Each test of the protocol runs against every kind of infrastructure."""

from pathlib import Path

import pytest
from tests.support.infrastructure_sites import LocalSite, SimulatedSite, Site
from tests.support.stand_in_processes import StandInProcesses
from tests.support.two_hosts import TwoHosts

from openvcha.infrastructure.local.infrastructure import HostProbe, LocalInfrastructure
from openvcha.infrastructure.local.processes import DetachedStarter


@pytest.fixture(params=["local", "hosts", "simulated"])
async def site(
    request: pytest.FixtureRequest,
    infrastructure: LocalInfrastructure,
    processes: StandInProcesses,
    starter: DetachedStarter,
    tmp_path: Path,
) -> Site:
    """Return a site of each kind in turn."""
    if request.param == "simulated":
        return SimulatedSite()
    if request.param == "hosts":
        return await TwoHosts(tmp_path / "hosts").plugged()
    machine = HostProbe(answers=lambda _: False)
    other = LocalInfrastructure(infrastructure.root, processes, starter, machine=machine)
    return LocalSite(infrastructure, other)

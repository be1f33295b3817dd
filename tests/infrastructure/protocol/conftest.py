"""Each test of the protocol runs against every kind of infrastructure."""

from collections.abc import AsyncIterator
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
) -> AsyncIterator[Site]:
    """Yield a site of each kind in turn."""
    if request.param == "simulated":
        yield SimulatedSite()
        return
    if request.param == "hosts":
        two = await TwoHosts(tmp_path / "hosts").plugged()
        yield two
        await two.end()
        return
    machine = HostProbe(answers=lambda _: False)
    other = LocalInfrastructure(infrastructure.root, processes, starter, machine=machine)
    yield LocalSite(infrastructure, other)

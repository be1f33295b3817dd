"""A creation that takes its time, or whose reply is lost, in the SIMULATED infrastructure."""

import pytest
from tests.support.infrastructure_sites import SimulatedSite
from tests.support.simulated.infrastructure import SLOW_LOOKS

from openvcha.api.errors import ApiError, ErrorType
from openvcha.infrastructure.interface import Power


async def test_a_slow_creation_reports_its_progress() -> None:
    """It only grows, and the VM cannot be powered on before it is done."""
    site = SimulatedSite()
    site.world.faults.add("creations are slow")
    creation = await site.infrastructure.begin(await site.request())
    assert creation.vm is not None
    with pytest.raises(ApiError):
        await site.infrastructure.power_on(creation.vm)
    shown = []
    while not creation.done:
        shown.append(creation.fraction or 0.0)
        creation = await site.other.observe(creation)
    assert shown == sorted(shown)
    assert len(shown) >= SLOW_LOOKS
    await site.infrastructure.power_on(creation.vm or "")


async def test_after_a_lost_reply_the_same_vm_is_found() -> None:
    """The caller got an error; asking again creates no second one."""
    site = SimulatedSite()
    site.world.faults.add("replies are lost")
    request = await site.request()
    with pytest.raises(ApiError) as caught:
        await site.infrastructure.begin(request)
    assert caught.value.error_type is ErrorType.RESOURCE_INACCESSIBLE
    site.world.faults.clear()
    found = await site.infrastructure.find(request.token)
    assert found is not None
    assert (await site.infrastructure.begin(request)).vm == found.vm
    assert len((await site.infrastructure.inventory()).vms) == 1
    assert (await site.infrastructure.node(found.vm or "")).power is Power.OFF

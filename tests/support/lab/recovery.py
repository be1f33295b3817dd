"""Powering nodes of a lab off and on, and waiting for the outcome."""

import asyncio
from typing import Any

from tests.support.lab.nodes import node_status
from tests.support.lab.running_lab import RunningLab
from tests.support.waiting import until

from openvcha.lab.access import lab_infrastructure


def power(running: RunningLab, name: str, *, on: bool) -> None:
    """Power a node on or off, whatever its role."""
    vm = next(vm for vm in running.vms() if vm.name == name)
    infrastructure = lab_infrastructure(running.lab)
    asyncio.run((infrastructure.power_on if on else infrastructure.power_off)(vm.id))


def wait_patiently(running: RunningLab, condition: Any, seconds: float = 300) -> None:
    """Retry while no node may be serving the API."""

    def states() -> dict[str, Any]:
        return {vm.name: node_status(running, vm.name) for vm in running.vms()}

    until(condition, seconds, seen=states, pause=0.2)

"""The power of VMs: real processes, a stand-in for the supervisor."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.support.stand_in_processes import StandInProcesses
from tests.support.vms import created, vm_of
from tests.support.waiting import until_async

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.structures import HostConnectionState, VmPowerState
from openvcha.infrastructure.interface import NodeRequest, Power
from openvcha.infrastructure.inventory import Vm
from openvcha.infrastructure.local.infrastructure import HostProbe, LocalInfrastructure
from openvcha.infrastructure.local.power import PowerTimeouts
from openvcha.infrastructure.local.processes import DetachedStarter, ProcessTable, started_at
from openvcha.infrastructure.local.state import exclusive
from openvcha.system.proc import read_stat


@pytest.fixture
async def vm(infrastructure: LocalInfrastructure, request_1: NodeRequest) -> Vm:
    return await created(infrastructure, request_1)


async def power(infrastructure: LocalInfrastructure, vm: Vm) -> VmPowerState:
    return (await vm_of(infrastructure, vm.id)).power_state


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    await until_async(condition, 120, pause=0.01)


async def two_processes(processes: ProcessTable, vm: Vm) -> bool:
    return len(processes.find(Path(vm.directory))) == 2


async def gone(processes: ProcessTable, vm: Vm, pid: int) -> bool:
    return pid not in processes.find(Path(vm.directory))


def is_directory(vm: Vm) -> bool:
    return Path(vm.directory).is_dir()


def parent(pid: int) -> int:
    stat = read_stat(pid)
    assert stat
    return stat.parent


async def test_on_and_off(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable
) -> None:
    """On while the supervisor lives, off once nothing is left; both calls are idempotent."""
    directory = Path(vm.directory)
    await infrastructure.power_on(vm.id)
    assert await power(infrastructure, vm) == VmPowerState.POWERED_ON
    first = processes.find(directory)
    await infrastructure.power_on(vm.id)
    assert processes.find(directory) == first != []
    await infrastructure.power_off(vm.id)
    await infrastructure.power_off(vm.id)
    assert await power(infrastructure, vm) == VmPowerState.POWERED_OFF
    assert [started_at(pid) for pid in first] == [None]


async def test_one_look_shows_the_power_of_all(
    infrastructure: LocalInfrastructure,
    vm: Vm,
    request_1: NodeRequest,
    processes: StandInProcesses,
) -> None:
    """Each query reads all of /proc, and a query that does not need it reads nothing."""
    place = replace(request_1.placement, name="another")
    other = replace(request_1, token="another", placement=place, addresses=())
    await infrastructure.begin(other)
    await infrastructure.power_on(vm.id)
    before = processes.looks
    shown = {each.id: each.power_state for each in (await infrastructure.inventory(power=True)).vms}
    assert sorted(shown.values()) == [VmPowerState.POWERED_OFF, VmPowerState.POWERED_ON]
    assert shown[vm.id] is VmPowerState.POWERED_ON
    assert processes.looks == before + 1
    places = await infrastructure.inventory(power=False)
    assert [each.id for each in places.vms] == list(shown)
    assert all(each.free_space for each in places.datastores)
    assert processes.looks == before + 1


async def test_off_takes_the_whole_tree(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable
) -> None:
    """Even a child in its own session is killed."""
    await infrastructure.write_files(vm.id, {"child": b""})
    await infrastructure.power_on(vm.id)
    await until(lambda: two_processes(processes, vm))
    await infrastructure.power_off(vm.id)
    assert processes.find(Path(vm.directory)) == []


async def test_the_state_is_what_is(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable
) -> None:
    """A killed supervisor turns the VM off, and it can be powered on again."""
    await infrastructure.power_on(vm.id)
    (pid,) = processes.find(Path(vm.directory))
    os.kill(pid, signal.SIGKILL)
    await until(lambda: gone(processes, vm, pid))
    assert await power(infrastructure, vm) == VmPowerState.POWERED_OFF
    await infrastructure.power_on(vm.id)
    assert processes.find(Path(vm.directory)) not in ([], [pid])


async def test_orphans_are_no_supervisor(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable
) -> None:
    """With only a child left the VM counts as on, and powering on starts a supervisor."""
    await infrastructure.write_files(vm.id, {"child": b""})
    await infrastructure.power_on(vm.id)
    directory = Path(vm.directory)
    await until(lambda: two_processes(processes, vm))
    supervisor = int((directory / "run" / "supervisor.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: gone(processes, vm, supervisor))
    assert await power(infrastructure, vm) == VmPowerState.POWERED_ON
    await infrastructure.power_on(vm.id)
    assert int((directory / "run" / "supervisor.pid").read_text()) != supervisor


async def test_a_pid_of_somebody_else_is_no_supervisor(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable
) -> None:
    """An id in the pid file that another process has now does not count."""
    await infrastructure.write_files(vm.id, {"run/supervisor.pid": str(os.getpid()).encode()})
    await infrastructure.power_on(vm.id)
    text = (Path(vm.directory) / "run" / "supervisor.pid").read_text()
    assert [int(text)] == processes.find(Path(vm.directory))


async def test_started_process_is_nobodys_child(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable
) -> None:
    """The supervisor is in its own session and not our child: it survives our exit."""
    await infrastructure.power_on(vm.id)
    (pid,) = processes.find(Path(vm.directory))
    assert parent(pid) != os.getpid()
    assert os.getsid(pid) == pid


async def test_it_dies_at_once(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable
) -> None:
    """A supervisor that exits at once fails the power-on with its latest output."""
    for reason in (b"disk is gone", b"port is taken"):
        await infrastructure.write_files(vm.id, {"die": reason})
        with pytest.raises(ApiError) as caught:
            await infrastructure.power_on(vm.id)
        assert caught.value.error_type == ErrorType.ERROR
        said = f"bad configuration: {reason.decode()}"
        assert caught.value.messages[0].args == (vm.name, said)
    assert processes.find(Path(vm.directory)) == []


async def test_no_such_command(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable
) -> None:
    """A missing command is reported, not waited for."""
    broken = LocalInfrastructure(
        infrastructure.root, processes, DetachedStarter(("/nowhere/vcha",))
    )
    with pytest.raises(ApiError) as caught:
        await broken.power_on(vm.id)
    assert "/nowhere/vcha" in caught.value.messages[0].default_message


async def test_never_ready(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable, starter: DetachedStarter
) -> None:
    """A supervisor that does not become ready in time is killed, and the VM is off."""
    hasty = LocalInfrastructure(
        infrastructure.root, processes, starter, timeouts=PowerTimeouts(poll=0.01, power_on=0.3)
    )
    await infrastructure.write_files(vm.id, {"silent": b""})
    with pytest.raises(ApiError) as caught:
        await hasty.power_on(vm.id)
    assert caught.value.error_type == ErrorType.TIMED_OUT
    assert processes.find(Path(vm.directory)) == []


class Undying:
    """Processes in uninterruptible sleep, which no signal ends."""

    def find(self, _: Path) -> list[int]:
        return [4711]

    def find_each(self, directories: Sequence[Path]) -> list[list[int]]:
        return [[4711] for _ in directories]

    async def kill(self, _: Path) -> None:
        return


async def test_what_does_not_die(infrastructure: LocalInfrastructure, vm: Vm) -> None:
    """Power off reports the processes that are left, and a delete then keeps the data."""
    stuck = LocalInfrastructure(
        infrastructure.root,
        Undying(),
        DetachedStarter((sys.executable,)),
        timeouts=PowerTimeouts(poll=0.01, power_off=0.05),
    )
    for tried in (stuck.power_off(vm.id), stuck.delete(vm.id)):
        with pytest.raises(ApiError) as caught:
            await tried
        assert caught.value.error_type == ErrorType.TIMED_OUT
        assert "4711" in caught.value.messages[0].default_message
    assert is_directory(vm)


async def test_delete_powers_off_first(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable
) -> None:
    """A running VM is powered off before its directory is deleted."""
    await infrastructure.power_on(vm.id)
    await infrastructure.delete(vm.id)
    assert processes.find(Path(vm.directory)) == []
    assert not is_directory(vm)


async def test_no_customization_while_on(infrastructure: LocalInfrastructure, vm: Vm) -> None:
    """Files are written into a VM only while it is off."""
    await infrastructure.power_on(vm.id)
    with pytest.raises(ApiError) as caught:
        await infrastructure.write_files(vm.id, {"a": b""})
    assert caught.value.error_type == ErrorType.NOT_ALLOWED_IN_CURRENT_STATE


async def test_many_power_it_on(
    infrastructure: LocalInfrastructure,
    vm: Vm,
    processes: ProcessTable,
    starter: DetachedStarter,
) -> None:
    """However many power it on simultaneously, one supervisor is started."""
    other = LocalInfrastructure(infrastructure.root, processes, starter)
    await asyncio.gather(*(who.power_on(vm.id) for who in (infrastructure, other) * 3))
    assert len(processes.find(Path(vm.directory))) == 1


async def test_busy(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable, starter: DetachedStarter
) -> None:
    """A VM that another caller is switching is waited for, up to a limit."""
    impatient = LocalInfrastructure(
        infrastructure.root, processes, starter, timeouts=PowerTimeouts(poll=0.01, busy=0.05)
    )
    async with exclusive(infrastructure.root / "locks" / f"{vm.id}.lock", 0.01, 1):
        with pytest.raises(ApiError) as caught:
            await impatient.power_off(vm.id)
        assert caught.value.error_type == ErrorType.RESOURCE_BUSY
        waiting = asyncio.create_task(infrastructure.power_off(vm.id))
        await asyncio.sleep(0)
    await waiting


async def test_own_address_answers(
    infrastructure: LocalInfrastructure, vm: Vm, processes: ProcessTable, starter: DetachedStarter
) -> None:
    """A running VM's own address does not count as in use when the VM is to be ignored."""
    hearing = LocalInfrastructure(
        infrastructure.root, processes, starter, machine=HostProbe(answers=lambda _: True)
    )
    assert await hearing.address_in_use("127.83.2.12", ignoring=(vm.id,))
    await infrastructure.power_on(vm.id)
    assert not await hearing.address_in_use("127.83.2.12", ignoring=(vm.id,))
    assert await hearing.address_in_use("127.83.2.12")


async def test_who_owns_the_machine_reaches_a_disconnected_host(
    infrastructure: LocalInfrastructure,
    vm: Vm,
    processes: ProcessTable,
    starter: DetachedStarter,
) -> None:
    """A lab is stopped and deleted whatever its inventory says of its hosts."""
    owner = LocalInfrastructure(infrastructure.root, processes, starter, reaches_all=True)
    await infrastructure.power_on(vm.id)
    await infrastructure.set_host(vm.host, connection_state=HostConnectionState.DISCONNECTED)
    assert (await infrastructure.node(vm.id)).power is Power.UNKNOWN
    assert await infrastructure.power_off(vm.id) is Power.UNKNOWN
    assert processes.find(Path(vm.directory))
    assert (await owner.node(vm.id)).power is Power.ON
    assert await owner.power_off(vm.id) is Power.OFF
    assert processes.find(Path(vm.directory)) == []
    assert await owner.delete(vm.id)

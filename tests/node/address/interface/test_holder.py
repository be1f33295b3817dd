"""The holder of the public address, with a simulated kernel and network."""

import asyncio
import errno
from collections.abc import AsyncGenerator
from ipaddress import ip_address
from itertools import pairwise

import pytest

from openvcha.node.address.interface.holder import (
    AGAIN_SECONDS,
    CHECK_SECONDS,
    CONFLICT_SECONDS,
    Holder,
)
from openvcha.node.address.interface.kernel import Interface
from openvcha.node.address.interface.packets import Address, HeldAddress

pytestmark = pytest.mark.looptime

ADDRESS = ip_address("192.0.2.10")
MAC, OTHER = bytes.fromhex("02005e000001"), bytes.fromhex("02005e000002")
SECOND = bytes.fromhex("02005e000009")
OTHER_TEXT = "02:00:5e:00:00:02"
LIFETIME = 6
FAR = 1e6


def now() -> float:
    """Return the time of the test."""
    return asyncio.get_running_loop().time()


class SimulatedKernel:
    """SIMULATED: one interface, whose address ends with its lifetime."""

    def __init__(self) -> None:
        self.interfaces = {"eth0": Interface(2, MAC, up=True)}
        self.ends = -1.0
        self.puts: list[tuple[float, int]] = []
        self.fails = False

    @property
    def there(self) -> bool:
        """Return whether the address is on the interface."""
        return now() < self.ends

    async def interface(self, name: str) -> Interface:
        """Return the interface."""
        if name not in self.interfaces:
            raise OSError(errno.ENODEV, "No such device")
        return self.interfaces[name]

    async def macs(self) -> frozenset[bytes]:
        """Return the MACs of this machine's two interfaces."""
        return frozenset((MAC, SECOND))

    async def has(self, index: int, address: Address) -> bool:
        """Return whether the address is there."""
        assert (index, address) == (self.interfaces["eth0"].index, ADDRESS)
        return self.there

    async def put(self, index: int, address: Address, prefix: int, lifetime: int) -> None:
        """Add or refresh it."""
        assert (index, address, prefix) == (self.interfaces["eth0"].index, ADDRESS, 32)
        if self.fails:
            raise OSError(errno.EPERM, "Operation not permitted")
        self.puts.append((now(), lifetime))
        self.ends = now() + lifetime

    async def delete(self, index: int, address: Address) -> None:
        """Remove it."""
        assert (index, address) == (2, ADDRESS) or index == 5
        self.ends = -1.0


class SimulatedPackets:
    """SIMULATED: a network on which another machine may have the address."""

    def __init__(self) -> None:
        self.other: bytes | None = None
        self.probes: list[float] = []
        self.announced: list[float] = []
        self.opened = self.closed = 0
        self._claims: asyncio.Queue[bytes | None] = asyncio.Queue()

    def open(self, interface: str, mac: bytes, address: Address) -> "SimulatedPackets":
        """Open the socket."""
        assert (interface, mac, address) == ("eth0", MAC, ADDRESS)
        self.opened += 1
        self._claims = asyncio.Queue()
        return self

    def probe(self) -> None:
        """Ask; another machine that has the address answers at once."""
        self.probes.append(now())
        if self.other:
            self._claims.put_nowait(self.other)

    def announce(self) -> None:
        """Announce."""
        self.announced.append(now())

    def claim(self, mac: bytes | None) -> None:
        """Let another machine claim the address; None: the interface is gone."""
        self._claims.put_nowait(mac)

    async def claims(self) -> AsyncGenerator[bytes, None]:
        """Yield the claims."""
        while (mac := await self._claims.get()) is not None:
            yield mac

    def close(self) -> None:
        """Close the socket."""
        self.closed += 1


class Machine:
    """A holder with everything around it simulated."""

    def __init__(self) -> None:
        self.kernel, self.network = SimulatedKernel(), SimulatedPackets()
        spec = HeldAddress("eth0", ADDRESS, 32, LIFETIME)
        self.holder = Holder(spec, self.kernel, self.network.open, now=now)


@pytest.fixture
async def machine() -> AsyncGenerator[Machine, None]:
    """Yield a machine; in the end nothing is open."""
    made = Machine()
    yield made
    await made.holder.release()
    assert made.network.opened == made.network.closed
    assert not made.kernel.there


async def test_it_asks_before_it_takes_the_address(machine: Machine) -> None:
    """Three times, then the address is there, and is announced at once."""
    answer = await machine.holder.acquire(FAR)
    assert (answer.state, answer.holds) == ("held", True)
    assert len(machine.network.probes) >= 3
    assert machine.network.announced[0] >= machine.network.probes[2] + 0.04 - 1e-9
    assert [lifetime for _, lifetime in machine.kernel.puts] == [LIFETIME]
    assert machine.kernel.puts[0][0] == pytest.approx(0.12)


async def test_who_answers_keeps_it(machine: Machine) -> None:
    """The answer says who: nothing is added, nothing announced."""
    machine.network.other = OTHER
    answer = await machine.holder.acquire(FAR)
    assert (answer.state, answer.mac, answer.holds) == ("conflict", OTHER_TEXT, False)
    assert machine.kernel.puts == []
    assert machine.network.announced == []
    machine.network.other = None
    assert (await machine.holder.acquire(FAR)).state == "held"


async def test_it_is_announced_again_and_again(machine: Machine) -> None:
    """At 0, 0.2, 1 and 2 s, and each second until no former holder can answer any more."""
    await machine.holder.acquire(FAR)
    begun = now()
    for _ in range(20):
        await asyncio.sleep(1)
        await machine.holder.refresh(FAR)
    told = [round(at - begun, 3) for at in machine.network.announced]
    assert told[:4] == [0.0, 0.2, 1.0, 2.0]
    assert LIFETIME < told[-1] < LIFETIME + 4
    assert max(b - a for a, b in pairwise(told)) <= AGAIN_SECONDS + 1e-9


async def test_without_a_refresh_it_is_gone(machine: Machine) -> None:
    """Nobody needs to remove it; the next refresh tells that it is gone."""
    await machine.holder.acquire(FAR)
    await asyncio.sleep(LIFETIME + 0.1)
    assert not machine.kernel.there
    answer = await machine.holder.refresh(FAR)
    assert (answer.state, answer.holds) == ("nobody", False)


async def test_it_ends_with_the_proof(machine: Machine) -> None:
    """However often it is refreshed: the time of the proof counts, not that it is asked."""
    await machine.holder.acquire(now() + 20)
    until = now() + 12.0
    while now() < until + 3:
        await machine.holder.refresh(until)
        await asyncio.sleep(0.5)
        assert machine.kernel.ends <= until
    assert not machine.kernel.there


async def test_without_a_proof_it_is_not_taken(machine: Machine) -> None:
    """As when the leadership has just been lost."""
    answer = await machine.holder.acquire(now() + 2.0)
    assert (answer.state, answer.holds) == ("cannot", False)
    assert machine.network.probes == []
    answer = await machine.holder.acquire(now() + 2.55)
    assert answer.state == "cannot"
    assert machine.kernel.puts == []


async def test_a_machine_that_claims_it_later_is_told_of(machine: Machine) -> None:
    """We have the proof, so we keep it, announce it again, and say who else has it."""
    await machine.holder.acquire(FAR)
    for _ in range(15):
        await asyncio.sleep(1)
        await machine.holder.refresh(FAR)
    told = len(machine.network.announced)
    machine.network.claim(OTHER)
    await asyncio.sleep(0.01)
    answer = await machine.holder.refresh(FAR)
    assert (answer.state, answer.mac, answer.holds) == ("conflict", OTHER_TEXT, True)
    assert len(machine.network.announced) == told + 1
    await asyncio.sleep(CONFLICT_SECONDS + 0.1)
    assert (await machine.holder.refresh(FAR)).state == "held"


async def test_a_silent_machine_that_has_it_too_is_found(machine: Machine) -> None:
    """It says nothing by itself, but it answers."""
    await machine.holder.acquire(FAR)
    for _ in range(15):
        await asyncio.sleep(1)
        await machine.holder.refresh(FAR)
    machine.network.other = OTHER
    seen = []
    for _ in range(20):
        await asyncio.sleep(1)
        seen.append((await machine.holder.refresh(FAR)).state)
    assert "conflict" in seen[: int(CHECK_SECONDS) + 1]
    assert set(seen[-10:]) == {"conflict"}


async def test_the_machine_itself_is_no_other(machine: Machine) -> None:
    """Linux answers on each interface in the same network."""
    machine.network.other = SECOND
    assert (await machine.holder.acquire(FAR)).state == "held"
    await asyncio.sleep(1)
    assert (await machine.holder.refresh(FAR)).state == "held"


async def test_who_removes_it_is_noticed(machine: Machine) -> None:
    """It is not there: nobody has it until it is acquired again."""
    await machine.holder.acquire(FAR)
    await machine.kernel.delete(2, ADDRESS)
    assert (await machine.holder.refresh(FAR)).state == "nobody"
    assert (await machine.holder.acquire(FAR)).state == "held"


async def test_an_interface_that_is_down_is_told_of(machine: Machine) -> None:
    """The address stays, and is announced again once the network is back."""
    await machine.holder.acquire(FAR)
    await asyncio.sleep(1)
    machine.kernel.interfaces["eth0"] = Interface(2, MAC, up=False)
    answer = await machine.holder.refresh(FAR)
    assert (answer.state, answer.holds) == ("cannot", True)
    assert "eth0 is down" in answer.reason
    machine.kernel.interfaces["eth0"] = Interface(2, MAC, up=True)
    machine.network.announced.clear()
    assert (await machine.holder.refresh(FAR)).state == "held"
    assert machine.network.announced


async def test_an_interface_that_is_down_takes_no_address(machine: Machine) -> None:
    """There, nobody could answer."""
    machine.kernel.interfaces["eth0"] = Interface(2, MAC, up=False)
    assert (await machine.holder.acquire(FAR)).state == "cannot"
    assert machine.kernel.puts == []


async def test_an_interface_that_is_gone_is_told_of(machine: Machine) -> None:
    """With its name and the kernel's reason; once it is back, the address is taken again."""
    await machine.holder.acquire(FAR)
    del machine.kernel.interfaces["eth0"]
    answer = await machine.holder.refresh(FAR)
    assert (answer.state, answer.reason) == ("cannot", "eth0: No such device")
    machine.kernel.interfaces["eth0"] = Interface(5, MAC, up=True)
    assert (await machine.holder.acquire(FAR)).state == "held"


async def test_a_kernel_that_refuses_is_told_of(machine: Machine) -> None:
    """As without the privilege."""
    machine.kernel.fails = True
    answer = await machine.holder.acquire(FAR)
    assert (answer.state, answer.holds) == ("cannot", False)
    assert "not permitted" in answer.reason


async def test_a_socket_that_ends_is_listened_to_again(machine: Machine) -> None:
    """Else no other machine would be noticed any more."""
    await machine.holder.acquire(FAR)
    machine.network.claim(None)
    await asyncio.sleep(1)
    assert (await machine.holder.refresh(FAR)).state == "held"
    machine.network.claim(OTHER)
    await asyncio.sleep(0.01)
    assert (await machine.holder.refresh(FAR)).state == "conflict"


async def test_it_is_acquired_once(machine: Machine) -> None:
    """Asking again only refreshes it."""
    await machine.holder.acquire(FAR)
    assert (await machine.holder.acquire(FAR)).state == "held"
    assert machine.network.opened == 1


async def test_a_check_adds_nothing_and_asks_nobody(machine: Machine) -> None:
    """It only tells whether the interface could have the address."""
    assert (await machine.holder.check()).state == "nobody"
    machine.kernel.interfaces["eth0"] = Interface(2, MAC, up=False)
    assert "down" in (await machine.holder.check()).reason
    del machine.kernel.interfaces["eth0"]
    assert "No such device" in (await machine.holder.check()).reason
    assert (machine.network.probes, machine.kernel.puts) == ([], [])

"""The real helper on real interfaces: two machines that may hold the address, and an observer."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from tests.support.network import NIC, Machine, machines
from tests.support.waiting import until, until_async

from openvcha.node.address import state
from openvcha.node.address.interface.client import HelperLink, InterfaceAddress
from openvcha.node.address.interface.helper_config import MODULE, WITH_PARENT
from openvcha.node.address.interface.lifetime import KERNEL_LATE_SECONDS, boot_time
from openvcha.node.address.interface.protocol import Request
from openvcha.store.address_reports import Holding
from openvcha.system.proc import read_stat, read_uid

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can make network namespaces: run these tests as root"
)

LATEST = 60.0
BUSY_SECONDS = 15.0
"""How much later a test may notice it on a busy machine; without a lifetime it would be never."""
LIFETIME = 2
FAMILIES = ["192.0.2.{}", "2001:db8::{}"]
numbers = count(100)
"""Each test has an address of its own."""
STARTER = """
import sys, time
from pathlib import Path
from openvcha.node.address.interface.starter import start_helper
node, configs, other = map(Path, sys.argv[1:])
helper = start_helper(node, configs)
print(helper.pid, start_helper(node, configs), start_helper(other, configs), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def network() -> Iterator[list[Machine]]:
    """Yield two machines and an observer."""
    with machines(3) as made:
        yield made


class Holder:
    """The helper on a machine, and the service's side of it."""

    def __init__(self, machine: Machine, address: str, folder: Path) -> None:
        self.machine = machine
        self.address = address
        self.proven_until = float("inf")
        config = folder / f"{machine.port}.json"
        path = folder / f"{machine.port}.sock"
        config.write_text(
            json.dumps(
                {
                    "interface": NIC,
                    "address": address,
                    "lifetime": LIFETIME,
                    "user": os.geteuid(),
                    "socket": str(path),
                }
            )
        )
        argv = machine.command(sys.executable, "-m", MODULE, WITH_PARENT, str(config))
        self.helper = subprocess.Popen(argv)
        until(path.is_socket, LATEST, seen=self.helper.poll, pause=0.02)
        self.own = InterfaceAddress(
            HelperLink(str(path)),
            NIC,
            address,
            lambda: min(self.proven_until, boot_time() + 15.0),
        )
        self.keeping: asyncio.Task[None] | None = None

    async def acquire(self) -> None:
        """Acquire the address, and keep it as the service does."""
        self.keeping = self.keeping or asyncio.create_task(self.own.keep())
        await self.own.acquire()

    @property
    def there(self) -> bool:
        """Return whether the address is on the interface."""
        return self.machine.has(self.address)

    async def close(self) -> None:
        """End both."""
        self.helper.send_signal(signal.SIGCONT)
        if self.keeping:
            self.keeping.cancel()
            await asyncio.wait([self.keeping])
        self.own._helper.close()
        self.helper.terminate()
        await asyncio.to_thread(self.helper.wait)
        await asyncio.sleep(0)


@asynccontextmanager
async def holders(
    machines: list[Machine], address: str, folder: Path
) -> AsyncIterator[list[Holder]]:
    """Yield a holder on each machine; afterwards none has the address."""
    made = await asyncio.gather(
        *(asyncio.to_thread(Holder, machine, address, folder) for machine in machines)
    )
    try:
        yield made
    finally:
        for one in made:
            await one.close()
        await until_async(lambda: not any(one.has(address) for one in machines), LATEST)


@pytest.fixture(params=FAMILIES, ids=["ipv4", "ipv6"])
def address(request: pytest.FixtureRequest) -> str:
    """Return an address that no other test uses."""
    return str(request.param).format(next(numbers))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short name: a Unix socket's address holds at most 107 bytes."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


async def test_it_moves_from_machine_to_machine(
    network: list[Machine], address: str, folder: Path
) -> None:
    """The second finds the first, waits for its release, and the neighbors learn at once."""
    *two, observer = network
    async with holders(two, address, folder) as (a, b):
        await a.acquire()
        assert a.there
        observer.greet(address)
        await until_async(lambda: observer.neighbor(address) == a.machine.mac, LATEST)
        with pytest.raises(OSError, match=a.machine.mac):
            await b.acquire()
        assert b.own.state == state.conflict(a.machine.mac)
        assert not b.there
        await a.own.release()
        assert not a.there
        await b.acquire()
        assert b.there
        # Nothing of the observer asks again: the announcement says so.
        await until_async(lambda: observer.neighbor(address) == b.machine.mac, LATEST, pause=0.01)


async def test_it_is_gone_when_its_holder_is(
    network: list[Machine], address: str, folder: Path
) -> None:
    """Whether the service does nothing any more, or its helper is frozen, or killed.

    Nobody removes it: the kernel does, in time.
    """
    machine = network[0]
    all_of_them = []
    for name in ("service", "frozen", "killed"):
        (folder / name).mkdir()
        own = address.rpartition(":" if ":" in address else ".")
        text = f"{own[0]}{own[1]}{next(numbers)}"
        all_of_them.append(await asyncio.to_thread(Holder, machine, text, folder / name))
    silent, frozen, killed = all_of_them
    await asyncio.gather(*(one.acquire() for one in all_of_them))
    await asyncio.sleep(LIFETIME + KERNEL_LATE_SECONDS)
    assert all(one.there for one in all_of_them)  # each is refreshed
    connection, silent.own._helper = silent.own._helper, HelperLink(os.devnull)
    frozen.helper.send_signal(signal.SIGSTOP)
    killed.helper.kill()
    began = time.monotonic()
    await until_async(lambda: not any(one.there for one in all_of_them), LATEST, pause=0.02)
    assert time.monotonic() - began < LIFETIME + KERNEL_LATE_SECONDS + BUSY_SECONDS
    connection.close()
    for one in all_of_them:
        await one.close()


async def test_who_is_cut_off_loses_it_before_the_proof_ends(
    network: list[Machine], address: str, folder: Path
) -> None:
    """Its service still runs, and asks: but what it last learned of its leadership ends."""
    *two, observer = network
    async with holders(two, address, folder) as (a, b):
        await a.acquire()
        a.machine.cut()
        try:
            a.proven_until = boot_time() + 4.0
            await b.acquire()  # nobody answers there
            await until_async(lambda: not a.there, LATEST, pause=0.02)
            assert boot_time() < a.proven_until
        finally:
            a.machine.heal()
        observer.greet(address)
        await until_async(lambda: observer.neighbor(address) == b.machine.mac, LATEST)
        assert b.own.state == state.HELD


@pytest.mark.parametrize("address", FAMILIES[:1], indirect=True, ids=["ipv4"])
async def test_two_holders_tell_of_each_other(
    network: list[Machine], address: str, folder: Path
) -> None:
    """A machine that has the address for good, and was not there when it was asked."""
    holder, other, _ = network
    prefix = 128 if ":" in address else 32
    async with holders([holder], address, folder) as (a,):
        await a.acquire()
        other.add(address, prefix)
        try:
            await until_async(lambda: a.own.state == state.conflict(other.mac), LATEST, pause=0.02)
            assert a.own.held
        finally:
            other.remove(address, prefix)
        await until_async(lambda: a.own.state == state.HELD, LATEST, pause=0.02)


@pytest.mark.parametrize("address", FAMILIES[1:], indirect=True, ids=["ipv6"])
async def test_what_happens_to_the_interface_is_noticed(
    network: list[Machine], address: str, folder: Path
) -> None:
    """The address is removed, then the interface switched off and on: it is taken again."""
    machine, _, observer = network
    async with holders([machine], address, folder) as (a,):
        await a.acquire()
        machine.remove(address, 128 if ":" in address else 32)
        assert not a.there
        await until_async(lambda: a.there, LATEST, pause=0.02)
        machine.set_link(up=False)
        await until_async(
            lambda: a.own.state.holding is Holding.CANNOT and "is down" in a.own.state.detail,
            LATEST,
        )
        machine.set_link(up=True)
        await until_async(lambda: a.own.state == state.HELD, LATEST, pause=0.02)
        observer.greet(address)
        await until_async(lambda: observer.neighbor(address) == machine.mac, LATEST)


async def test_programs_can_listen_before_it_is_there(
    network: list[Machine], address: str, folder: Path
) -> None:
    """PostgreSQL binds its addresses only when it starts; and clients reach it at once."""
    machine, _, observer = network
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def listen() -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind((address, 5432))
        listener.listen()
        return listener

    def connect() -> socket.socket:
        client = socket.socket(family, socket.SOCK_STREAM)
        client.settimeout(LATEST)
        client.connect((address, 5432))
        return client

    async with holders([machine], address, folder) as (a,):
        with machine.run(listen) as listener:
            await a.acquire()
            with observer.run(connect) as client:
                accepted, peer = listener.accept()
                accepted.close()
                assert peer[0] == client.getsockname()[0]


def test_the_helper_has_no_other_privilege(network: list[Machine], folder: Path) -> None:
    """NET_ADMIN (12) and NET_RAW (13), nothing that they could be extended by, and no root."""
    holder = Holder(network[0], f"192.0.2.{next(numbers)}", folder)
    try:
        pid, wanted = holder.helper.pid, (1 << 12) | (1 << 13)

        def status() -> dict[str, str]:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

        # It makes its socket as root, and serves only afterwards.
        until(
            lambda: int(status()["CapEff"], 16) == wanted and status()["NoNewPrivs"] == "1", LATEST
        )
        found = status()
        assert [int(found[f"Cap{name}"], 16) for name in ("Prm", "Bnd")] == [wanted] * 2
        assert [int(found[f"Cap{name}"], 16) for name in ("Inh", "Amb")] == [0, 0]
        assert found["Groups"].split() == []
        assert read_uid(pid) not in {None, 0}
        assert set(found["Uid"].split()) == {str(read_uid(pid))}
    finally:
        asyncio.run(holder.close())


def test_root_starts_the_helper_of_its_node(network: list[Machine], folder: Path) -> None:
    """Once; it ends with the program that has started it, however that ends."""
    machine, address = network[0], f"192.0.2.{next(numbers)}"
    path = folder / "helper.sock"
    node = folder / "node"
    config = {
        "interface": NIC,
        "address": address,
        "user": os.geteuid(),
        "socket": str(path),
        "node": str(node),
    }
    (folder / "configs").mkdir()
    (folder / "configs" / "own.json").write_text(json.dumps(config))
    starter = machine.command(
        *(sys.executable, "-c", STARTER, str(node), str(folder / "configs"), str(folder / "other"))
    )
    with subprocess.Popen(starter, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        started, again, another = program.stdout.readline().split()
        assert (again, another) == ("None", "None")
        asyncio.run(_acquire(str(path), address))
        program.kill()
    until(lambda: not Path(f"/proc/{started}").exists() or _has_ended(int(started)), LATEST)
    assert not machine.has(address)


async def _acquire(path: str, address: str) -> None:
    link = HelperLink(path)
    asked = Request(do="acquire", interface=NIC, address=address, until=boot_time() + 60)
    assert (await link.ask(asked)).holds
    link.close()
    await asyncio.sleep(0)


def _has_ended(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is None or stat.ended

"""Machines at one switch: network namespaces of their own, gone when their processes are.

They have no names, so nothing is left of a test that is killed. Only root can make them.
"""

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import IPRoute
from tests.support.waiting import until

T = TypeVar("T")
NIC = "eth0"
IPV6 = Path(f"/proc/sys/net/ipv6/conf/{NIC}")
LATEST = 30.0
_RUNNING = 0x40
_C = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace, kept by a process that ends with ours: its input ends then."""

    def __init__(self) -> None:
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.path = Path(f"/proc/{self._keeper.pid}/ns/net")
        own = Path("/proc/self/ns/net").readlink()
        until(lambda: self.path.readlink() != own, LATEST, pause=0.01)
        self.configure(lambda route: route.link("set", index=1, state="up"))

    def close(self) -> None:
        """End the process, and with it the namespace and all links in it."""
        self._keeper.kill()
        self._keeper.communicate()

    @property
    def pid(self) -> int:
        """Return the process that keeps it."""
        return self._keeper.pid

    def run(self, work: Callable[[], T]) -> T:
        """Call ``work`` inside; sockets that it makes stay inside."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._inside, work).result()

    def configure(self, work: Callable[[Any], T]) -> T:
        """Call ``work`` with netlink inside."""

        def configured() -> T:
            with IPRoute() as route:
                return work(route)

        return self.run(configured)

    def command(self, *argv: str) -> list[str]:
        """Return a command line that runs another one inside."""
        return ["nsenter", f"--net={self.path}", *argv]

    def _inside(self, work: Callable[[], T]) -> T:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _C.setns(descriptor, 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)
        return work()


class Machine(Namespace):
    """A machine with one interface, NIC, at a switch."""

    def __init__(self, switch: "Switch", number: int) -> None:
        super().__init__()
        self._switch = switch
        self.port = f"port{number}"
        try:
            switch.plug(self)
            self.run(lambda: (IPV6 / "accept_dad").write_text("0"))  # it would take a second
            self.run(lambda: (IPV6 / "keep_addr_on_down").write_text("1"))
            self.set_link(up=True)
            for address, prefix in ((f"192.0.2.{number}", 24), (f"2001:db8::{number}", 64)):
                self.add(address, prefix)
        except BaseException:
            self.close()
            raise

    @property
    def mac(self) -> str:
        """Return the MAC address of the interface."""
        return str(self._link().get("address"))

    def set_link(self, *, up: bool) -> None:
        """Switch the interface on or off."""
        self.configure(
            lambda route: route.link("set", index=self._index(route), state="up" if up else "down")
        )

    def add(self, address: str, prefix: int) -> None:
        """Give the interface one more address, for good."""
        self.configure(
            lambda route: route.addr(
                "add", index=self._index(route), address=address, prefixlen=prefix
            )
        )

    def remove(self, address: str, prefix: int) -> None:
        """Remove an address."""
        self.configure(
            lambda route: route.addr(
                "del", index=self._index(route), address=address, prefixlen=prefix
            )
        )

    def has(self, address: str) -> bool:
        """Return whether the interface has an address."""
        return self.configure(
            lambda route: any(one.get("address") == address for one in route.get_addr())
        )

    def neighbor(self, address: str) -> str | None:
        """Return the MAC that this machine knows for an address."""
        found = self.configure(lambda route: list(route.get_neighbours(dst=address)))
        return found[0].get("lladdr") if found else None

    def greet(self, address: str) -> None:
        """Send a packet to an address, so that its MAC is looked up."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def send() -> None:
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"", (address, 9))

        self.run(send)

    def cut(self) -> None:
        """Cut it off, while its interface still has a carrier."""
        self._switch.connect(self, on=False)

    def heal(self) -> None:
        """Connect it again."""
        self._switch.connect(self, on=True)

    def is_ready(self) -> bool:
        """Return whether the interface has a carrier."""
        return bool(self._link()["flags"] & _RUNNING)

    def _link(self) -> Any:
        return self.configure(lambda route: next(iter(route.get_links(self._index(route)))))

    @staticmethod
    def _index(route: Any) -> int:
        return int(route.link_lookup(ifname=NIC)[0])


class Switch(Namespace):
    """What the machines are connected to."""

    def __init__(self) -> None:
        super().__init__()
        self.configure(lambda route: route.link("add", ifname="bridge", kind="bridge"))
        self.configure(
            lambda route: route.link("set", index=self._index(route, "bridge"), state="up")
        )

    def plug(self, machine: Machine) -> None:
        """Connect a machine by a cable of its own."""
        peer = {"ifname": NIC, "net_ns_pid": machine.pid}
        self.configure(lambda route: route.link("add", ifname=machine.port, kind="veth", peer=peer))
        self.configure(
            lambda route: route.link("set", index=self._index(route, machine.port), state="up")
        )
        self.connect(machine, on=True)

    def connect(self, machine: Machine, *, on: bool) -> None:
        """Let the port of a machine pass packets, or none."""
        self.configure(
            lambda route: route.link(
                "set",
                index=self._index(route, machine.port),
                master=self._index(route, "bridge") if on else 0,
            )
        )

    @staticmethod
    def _index(route: Any, name: str) -> int:
        return int(route.link_lookup(ifname=name)[0])


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """Yield machines at one switch, with the addresses 192.0.2.N and 2001:db8::N from 1 on."""
    switch = Switch()
    made: list[Machine] = []
    try:
        for number in range(1, count + 1):
            made.append(Machine(switch, number))  # noqa: PERF401 - those of a failed start end
        until(lambda: all(one.is_ready() for one in made), LATEST, pause=0.02)
        yield made
    finally:
        for one in (*made, switch):
            one.close()

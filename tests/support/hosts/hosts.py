"""Several hosts on one machine, on two networks, for the length of a block.

They need root, and Debian's packages openssh-server and iproute2, which `./dev test` installs.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.hosts import namespaces, plan
from tests.support.hosts.host import SSHD, Host, make_key

PROGRAMS = (SSHD, "ip", "ssh-keygen", "unshare", "setpriv", "nsenter")


@dataclass(frozen=True)
class Hosts:
    """Hosts that are on, and the switch between them.

    ``client_key`` is the private key with which root of each host lets a client in.
    """

    prefix: str
    client_key: Path
    hosts: tuple[Host, ...]

    def __getitem__(self, number: int) -> Host:
        """Return a host by its number, from 1."""
        return self.hosts[number - 1]

    @property
    def switch(self) -> str:
        """Return the namespace in which clients see the management network."""
        return f"{self.prefix}-sw"

    def entered(self) -> AbstractContextManager[None]:
        """Let this thread, and programs that it starts, use the management network."""
        return namespaces.entered(self.switch)


def why_impossible() -> str | None:
    """Return why there can be no hosts on this machine; None if there can be."""
    if os.geteuid() != 0:
        return "hosts on one machine need root"
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    return f"hosts on one machine need {', '.join(missing)}" if missing else None


@contextmanager
def hosts_on(
    directory: Path,
    count: int,
    subnets: tuple[plan.Subnets, ...] = (plan.IPV4,),
    *,
    prepared: bool = False,
) -> Iterator[Hosts]:
    """Yield hosts that are on; afterwards nothing of them is left but files in the directory.

    ``prepared`` ones have openvcha, as after `vcha host prepare`.
    """
    namespaces.remove_leftovers()
    prefix = namespaces.new_prefix()
    client_key = directory / "id"
    made = Hosts(
        prefix,
        client_key,
        tuple(
            Host(number, prefix, directory / f"h{number}", subnets, prepared)
            for number in range(1, count + 1)
        ),
    )
    try:
        make_key(client_key, prefix)
        _make_switch(made.switch, subnets)
        for host in made.hosts:
            host.install(client_key)
            host.power_on()
        yield made
    finally:
        for host in made.hosts:
            if host.is_on:
                host.power_off()
        namespaces.remove_all(prefix)


def _make_switch(name: str, subnets: tuple[plan.Subnets, ...]) -> None:
    namespaces.add(name)
    bridges = [f"br-{cable}" for cable in ("mgmt", "ha")]
    namespaces.network(
        *(f"link add {bridge} type bridge stp_state 0 forward_delay 0" for bridge in bridges),
        *(f"link set {bridge} up" for bridge in bridges),
        *(
            f"addr add {plan.at(each.management, plan.CLIENT)} dev br-mgmt nodad"
            for each in subnets
        ),
        namespace=name,
    )

"""A real node whose public address is on an interface, and clients on other machines."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.network import NIC, Machine, machines
from tests.support.nodes import SECRETS, UNTIL_SECONDS, Lab, Node
from tests.support.waiting import until

from openvcha.node.address.interface.helper_config import MODULE, WITH_PARENT
from openvcha.node.address.interface.lifetime import KERNEL_LATE_SECONDS
from openvcha.node.process.process_tree import Process, find_tree, send
from openvcha.node.public_interface import PublicInterface
from openvcha.store import keys

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(
        os.geteuid() != 0, reason="only root can make network namespaces: run these tests as root"
    ),
]
ADDRESS = "192.0.2.100"
LIFETIME = 2


@pytest.fixture(scope="module")
def network() -> Iterator[list[Machine]]:
    """Yield the node's machine, and two of clients."""
    with machines(3) as made:
        yield made


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return a folder with a short name: a Unix socket's address holds at most 107 bytes."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture(scope="module")
def helper(network: list[Machine], folder: Path) -> Iterator[Path]:
    """Run the helper of the node's machine; return its socket."""
    socket, path = folder / "helper.sock", folder / "own.json"
    config = {"interface": NIC, "address": ADDRESS, "lifetime": LIFETIME, "user": 0}
    path.write_text(json.dumps(config | {"socket": str(socket)}))
    argv = network[0].command(sys.executable, "-m", MODULE, WITH_PARENT, str(path))
    with subprocess.Popen(argv) as running:
        until(socket.is_socket, UNTIL_SECONDS, seen=running.poll)
        yield socket
        running.terminate()


@pytest.fixture(scope="module")
def node(network: list[Machine], folder: Path, helper: Path) -> Iterator[Node]:
    """Run a node that lets in users from the second machine only."""
    lab = Lab(folder / "nodes")
    public = PublicInterface(
        interface=NIC, lifetime=LIFETIME, clients=("192.0.2.2/32",), helper=str(helper)
    )
    made = lab.node(
        "one",
        1,
        {"one": 1},  # its HA address is a loopback one: Debian's etcd is for labs only
        public_address=ADDRESS,
        public=public,
        infrastructure={"kind": "local", "root": str(folder / "infrastructure")},
    )
    argv = network[0].command(sys.executable, "-m", "openvcha", "node", "run", str(made.directory))
    made.process = subprocess.Popen(argv)
    yield made
    lab.end()


def ask(machine: Machine, query: str) -> Any:
    """Return the value of a query by a user of the database on a machine."""
    password = SECRETS.application.reveal() if SECRETS.application else ""

    def asked() -> Any:
        with psycopg.connect(
            host=ADDRESS, user="app", dbname="app", password=password, connect_timeout=5
        ) as connection:
            row = connection.execute(query.encode()).fetchone()
            return row[0] if row else None

    return machine.run(asked)


def test_postgresql_sees_who_its_clients_are(node: Node, network: list[Machine]) -> None:
    """It is reached directly; and another machine's users are refused by where they are."""
    _, client, stranger = network
    seen = until(
        lambda: ask(client, "select host(inet_client_addr())"),
        UNTIL_SECONDS,
        seen=lambda: node.log("service")[-2000:],
        absent=(psycopg.Error,),
    )
    assert seen == "192.0.2.2"
    with pytest.raises(
        psycopg.OperationalError, match=r"no pg_hba\.conf entry for host .192.0.2.3"
    ):
        ask(stranger, "select 1")


def test_a_frozen_node_loses_its_address(node: Node, network: list[Machine]) -> None:
    """All its programs are stopped, so none can remove it; thawed, it takes it again."""
    own, client, _ = network
    assert own.has(ADDRESS)
    frozen = find_tree(node.directory)
    try:
        _signal(frozen, signal.SIGSTOP)
        until(lambda: not own.has(ADDRESS), LIFETIME + KERNEL_LATE_SECONDS + 5.0)
    finally:
        _signal(frozen, signal.SIGCONT)
    until(lambda: ask(client, "select 1"), UNTIL_SECONDS, absent=(psycopg.Error,))


def test_it_goes_with_the_leadership(node: Node, network: list[Machine]) -> None:
    """At once, not when its lifetime ends: another node waits for it."""
    own = network[0]
    until(lambda: own.has(ADDRESS), UNTIL_SECONDS)

    async def named(store: Any) -> None:
        await store.put(keys.PATRONI_LEADER, b"another")

    own.run(lambda: node.etcd(named))  # in a thread of that thread: inside too
    until(lambda: not own.has(ADDRESS), UNTIL_SECONDS, pause=0.01)


def _signal(processes: list[Process], number: signal.Signals) -> None:
    for process in processes:
        send(process, number)

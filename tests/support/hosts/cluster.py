"""A cluster over hosts, as an administrator makes it: by `vcha init`, and the other hosts added."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import requests
from com.vmware.vapi.std.errors_client import ServiceUnavailable
from com.vmware.vcenter.vcha.cluster_client import Passive
from com.vmware.vcenter.vcha_client import Cluster, IpSpec, Ipv4Spec, Ipv6Spec, PlacementSpec
from requests.adapters import HTTPAdapter
from tests.support.hosts import namespaces, plan
from tests.support.hosts.host import Host
from tests.support.hosts.hosts import Hosts, hosts_on
from tests.support.lab.writer import Writer
from tests.support.waiting import until
from urllib3.connection import HTTPConnection
from vmware.vapi.vsphere.client import create_vsphere_client

from openvcha.api.secret import Secret
from openvcha.client import trust
from openvcha.client.errors import RequestRefused, ServerUnreachable
from openvcha.client.rest_client import ApiClient
from openvcha.cluster.patroni_client import sync_state
from openvcha.daemon.compose import open_services
from openvcha.infrastructure.hosts.checks import HOME

VCHA = f"{HOME}/bin/vcha"
NODE = "/srv/node"
NODES = "/srv/nodes"
"""The datastore of each added host."""
ADMINISTRATOR = "administrator@vsphere.local"
APPLICATION = "app"
ADDRESSES = "/etc/openvcha/address"
PUBLIC_NUMBER = 100
SURE_SECONDS = 120.0
TASK_SECONDS = 420.0
ACCEPTED = ".etcd.old"
"""A warning that every node has where etcd is Debian 12's."""
LATE = "placement.host.disconnected"
ENDED = ("SUCCEEDED", "FAILED")
AWAY = (requests.RequestException, ServiceUnavailable)
"""The API cannot be reached, or its store cannot: while votes change, and at an election."""


class _Alive(HTTPAdapter):
    """Notices within seconds that the address has moved, also while it waits for a response.

    The former active can send none: it lost the address, and the SDK has no timeout.
    """

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Have the kernel probe each connection: the new holder refuses one it does not know."""
        probes = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 12))
        options["socket_options"] = [
            *HTTPConnection.default_socket_options,
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            *((socket.IPPROTO_TCP, name, value) for name, value in probes),
        ]
        super().init_poolmanager(*arguments, **options)


@dataclass
class HostsCluster:
    """Hosts, the first of which runs a node that `vcha init` has made; the others have none yet.

    ``client`` is the official SDK. Whoever uses it is in the hosts' management network.
    """

    hosts: Hosts
    subnets: plan.Subnets
    api: str
    authority: Path
    passwords: dict[str, str] = field(repr=False)
    client: Any = field(repr=False)

    @property
    def public(self) -> str:
        """Return the public address."""
        return str(self.subnets.management[PUBLIC_NUMBER])

    def placement(self, number: int, name: str) -> PlacementSpec:
        """Return the placement of a node on a host."""
        hosts = until(self.client.vcenter.Host.list, SURE_SECONDS, absent=AWAY)
        (host,) = [one.host for one in hosts if one.name == f"h{number}"]
        return PlacementSpec(name=name, folder="group-v3", host=host)

    def ha_ip(self, number: int) -> IpSpec:
        """Return the HA address of a host's node: the host's own."""
        address, prefix = plan.bare(self.subnets.ha, number), self.subnets.ha.prefixlen
        if self.subnets.ha.version == 4:
            return IpSpec(ip_family="IPV4", ipv4=Ipv4Spec(address=address, prefix=prefix))
        return IpSpec(ip_family="IPV6", ipv6=Ipv6Spec(address=address, prefix=prefix))

    def deploy(self, passive: int, witness: int) -> None:
        """Deploy the passive and the witness to two hosts, each by its number."""
        spec = Cluster.DeploySpec(
            deployment="AUTO",
            active=Cluster.ActiveSpec(ha_ip=self.ha_ip(1)),
            passive=Cluster.PassiveSpec(
                ha_ip=self.ha_ip(passive), placement=self.placement(passive, "passive")
            ),
            witness=Cluster.WitnessSpec(
                ha_ip=self.ha_ip(witness), placement=self.placement(witness, "witness")
            ),
        )
        self.accepted(partial(self.client.vcenter.vcha.Cluster.deploy_task, spec))

    def let_in(self, number: int, directory: str) -> None:
        """Let a data node, which is on this host, log in on all hosts, as their root would."""
        key = self.hosts[number].run(VCHA, "hosts", "key", directory)
        for host in self.hosts.hosts:
            with (host.directory / "authorized_keys").open("a") as keys:
                keys.write(key)

    def redeploy_passive(self, number: int, name: str) -> str:
        """Redeploy the passive to a host; return the task's last message."""
        spec = Passive.RedeploySpec(
            placement=self.placement(number, name), ha_ip=self.ha_ip(number)
        )
        return self.accepted(partial(self.client.vcenter.vcha.cluster.Passive.redeploy_task, spec))

    def failover(self, *, planned: bool = True) -> None:
        """Fail over, and wait for the end of the task."""
        self.succeeded(self.client.vcenter.vcha.Cluster.failover_task(planned=planned))

    def undeploy(self) -> None:
        """Undeploy the cluster, and delete its nodes."""
        spec = Cluster.UndeploySpec(force_delete=True)
        self.succeeded(self.client.vcenter.vcha.Cluster.undeploy_task(spec))

    def accepted(self, begin: Callable[[], Any]) -> str:
        """Begin a task, which must succeed; return its last message.

        A host that does not answer within 3 s is refused: on a busy machine, it is asked again.
        """

        def done() -> Any:
            info = self.ended(begin())
            return info if LATE not in str(info) else None

        return _message(until(done, TASK_SECONDS))

    def succeeded(self, task: Any) -> str:
        """Wait for a task, which must succeed; return its last message."""
        return _message(self.ended(task))

    def ended(self, task: Any) -> Any:
        """Wait for the end of a task, and return it.

        The API may be away for a moment: the active moves, or a cable is cut.
        """

        def ended() -> Any:
            info = task.get_info()
            return info if info.status in ENDED else None

        return until(ended, TASK_SECONDS, absent=AWAY)

    def cluster(self) -> Any:
        """Return the cluster's info; None while the API is away."""
        try:
            return self.client.vcenter.vcha.Cluster.get(partial=True)
        except AWAY:
            return None

    def warnings(self) -> list[str]:
        """Return the texts of unexpected health warnings; one more while the API is away."""
        found = self.cluster()
        if found is None:
            return ["the API does not respond"]
        return [
            each.error.default_message
            for each in (*(found.health_warnings or ()), *(found.health_exception or ()))
            if not each.error.id.endswith(ACCEPTED)
        ]

    def until_state(self, state: str) -> None:
        """Wait for a state of health; HEALTHY means without warnings."""

        def reached() -> bool:
            found = self.cluster()
            return bool(found and found.health_state == state) and (
                state != "HEALTHY" or not self.warnings()
            )

        until(reached, SURE_SECONDS, pause=0.5, seen=self.warnings)

    def name_of(self, role: str) -> str:
        """Return the name of the node in a role."""
        whole = until(self.client.vcenter.vcha.Cluster.get, SURE_SECONDS, absent=AWAY)
        nodes = [whole.node1, whole.node2, whole.witness]
        (found,) = [one for one in nodes if one and one.runtime and one.runtime.role == role]
        return cast("str", found.runtime.placement.vm_name)

    def holds(self, number: int) -> bool:
        """Return whether a host has the public address."""
        return f" {self.public}/" in self.hosts[number].run("ip", "-brief", "address")

    def deciding(self) -> tuple[set[str], set[str]]:
        """Return the names of etcd's members, and of those in ``/sync``, asked from host 1."""

        async def ask() -> tuple[list[str], list[str]]:
            async with open_services(self.hosts[1].directory / NODE.lstrip("/")) as services:
                members = [member.name for member in await services.store.members()]
                return members, sorted((await sync_state(services.store)).standbys)

        with namespaces.entered(self.hosts[1].name):
            found = asyncio.run(ask())
        # A member's name ends with a number that nobody chooses.
        members, in_sync = ({name.rpartition("-")[0] for name in each} for each in found)
        return members, in_sync

    def writer(self) -> Writer:
        """Return a writer through the public address, not yet begun."""
        return Writer(self.public, self.passwords[APPLICATION], self.authority)


@contextmanager
def cluster_over_hosts(
    directory: Path, count: int, families: tuple[plan.Subnets, ...] = (plan.IPV4,)
) -> Iterator[HostsCluster]:
    """Yield a cluster of one node whose inventory has the hosts from the second on.

    The hosts have addresses of all families: they are reached by the first, the cluster uses the
    last.
    This thread is in the hosts' management network meanwhile.
    """
    subnets = families[-1]
    with hosts_on(directory, count, families, prepared=True) as hosts, hosts.entered():
        made = _first_node(hosts[1], subnets)
        passwords = json.loads(hosts[1].run("cat", made["passwords_file"]))
        authority = directory / "authority.crt"
        authority.write_text(hosts[1].run("cat", made["authority"]))
        start(hosts[1], NODE)
        with requests.Session() as session:
            session.verify = str(authority)
            session.trust_env = False
            session.mount("https://", _Alive())
            password = Secret(passwords[ADMINISTRATOR])
            # By our own client: the end of an SDK's client that cannot log in overflows the stack.
            until(
                lambda: asyncio.run(_hosts(made["api"], authority, password)) == [],
                SURE_SECONDS,
                pause=0.2,
                absent=(ServerUnreachable, RequestRefused),
            )
            client = create_vsphere_client(
                made["api"].removeprefix("https://"),
                username=ADMINISTRATOR,
                password=password.reveal(),
                session=session,
            )
            cluster = HostsCluster(hosts, subnets, made["api"], authority, passwords, client)
            for host in hosts.hosts[1:]:
                _permit_address(hosts[1], host)
            _add_hosts(cluster)
            yield cluster


def _message(info: Any) -> str:
    assert info.status == "SUCCEEDED", info
    return str(info.progress.message.default_message)


def start(host: Host, directory: str) -> None:
    """Start a node on its host, as a service manager would."""
    host.run("sh", "-c", f"{VCHA} node run {directory} > {directory}.console 2>&1 &")


def _first_node(host: Host, subnets: plan.Subnets) -> dict[str, Any]:
    chosen = {
        "node.directory": NODE,
        "node.infrastructure": "hosts",
        "network.ha_address": plan.bare(subnets.ha, host.number),
        "network.public_address": subnets.management[PUBLIC_NUMBER],
        "network.public_prefix": subnets.management.prefixlen,
        # Debian 12 has no other.
        "etcd.accept_old": "yes",
    }
    given = [f"--set={key}={value}" for key, value in chosen.items()]
    host.run("touch", "/srv/openvcha.toml")
    words = (VCHA, "init", "--json", "--config=/srv/openvcha.toml", *given)
    made: dict[str, Any] = json.loads(host.run(*words))
    return made


def _permit_address(first: Host, host: Host) -> None:
    """Start the helper of the public address on a host, as its root would without systemd."""
    config = json.loads(first.run("cat", f"{ADDRESSES}/node.json"))
    # Whichever node leads there.
    del config["node"]
    file = f"{ADDRESSES}/{config['address']}.json"
    host.run("mkdir", "-p", ADDRESSES)
    host.run("sh", "-c", f"umask 022; cat > {file}", stdin=json.dumps(config))
    host.run("sh", "-c", f"{VCHA} node address {file} > /srv/address.console 2>&1 &")
    # A host whose helper does not answer gets no data node.
    begun = partial(host.run, "sh", "-c", f"test ! -S {config['socket']} || echo begun")
    until(begun, SURE_SECONDS, seen=partial(host.run, "cat", "/srv/address.console"))


def _add_hosts(cluster: HostsCluster) -> None:
    """Let the first node in at all other hosts, and add them to the inventory."""
    cluster.let_in(1, NODE)
    for host in cluster.hosts.hosts[1:]:
        host.run("mkdir", NODES)
        body = {
            "name": f"h{host.number}",
            "address": host.management,
            "user": "root",
            "host_key": host.host_key,
            "datastores": [NODES],
            "networks": [
                {"interface": "mgmt", "subnet": str(cluster.subnets.management)},
                {"interface": "ha", "subnet": str(cluster.subnets.ha)},
            ],
        }
        password = Secret(cluster.passwords[ADMINISTRATOR])
        asyncio.run(_hosts(cluster.api, cluster.authority, password, body))


async def _hosts(server: str, authority: Path, password: Secret, body: Any = None) -> Any:
    """List the inventory's hosts, or add one. Raises ServerUnreachable, RequestRefused."""
    trusted = trust.tls_by_authority(authority)
    async with ApiClient(server, trusted) as api, api.session(ADMINISTRATOR, password):
        return await api.call("GET" if body is None else "POST", "/openvcha/hosts", body)

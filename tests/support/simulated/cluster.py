"""A SIMULATED world: etcd members and quorum, VMs with nodes, who leads and who may.

The store's keys and the pure parts of the local inventory are the real ones. The world outlives the
processes that act on it, and records every violation of an invariant.
"""

import json

from tests.support.simulated.observations import ip
from tests.support.simulated.world.machines import SimulatedMachines
from tests.support.simulated.world.node import SimulatedNode
from tests.support.simulated.world.patroni import SimulatedPatroni

from openvcha.api.structures import ClusterMode, ConfigState
from openvcha.cluster import patroni_client
from openvcha.cluster.config import ClusterConfig, NodeConfig, NodeKind, Ports, cluster_record
from openvcha.cluster.store_accounts import witness_permissions
from openvcha.infrastructure import changes
from openvcha.infrastructure.interface import Placement, VmRequest
from openvcha.infrastructure.inventory import Vm
from openvcha.node.etcd.account import new_account
from openvcha.node.identity import IDENTITY, Identity, encode_identity
from openvcha.store import keys
from openvcha.store.interface import Member
from openvcha.system.network.host_port import url


class SimulatedCluster(SimulatedMachines, SimulatedPatroni):
    """The whole simulated world: how it begins, and what people, chance and tasks do to it."""

    async def found(self, name: str, number: int, *, witness: bool = False) -> NodeConfig:
        """Add a node that has always been there, powered on."""
        member = f"{name}-old"
        self.founded.add(name)
        vm = self.add_vm(
            VmRequest(
                placement=Placement(
                    name=name,
                    folder="group-v3",
                    host=f"host-{10 + number}",
                    resource_pool="resgroup-9",
                    datastore="datastore-14",
                    ha_network="network-15",
                    management_network="network-12",
                ),
                token=name,
                addresses=(f"127.83.2.1{number}",),
            )
        )
        identity = Identity(
            cluster_id="c",
            cluster_name="lab",
            member=member,
            kind="witness" if witness else "data",
            vm=vm.id,
            name=name,
            ha_address=f"127.83.2.1{number}",
            public_address="" if witness else "127.83.1.10",
            etcd_initial_cluster={},
        )
        machine = self.machines[vm.id]
        machine.files[IDENTITY] = encode_identity(identity)
        machine.written = -1 if witness else 0
        peer = url(identity.ha_address, identity.ports.etcd_peer)
        machine.member_id = next(self._ids)
        client = url(identity.ha_address, identity.ports.etcd_client)
        self.members.append(Member(machine.member_id, member, (peer,), (client,)))
        self.raft = member
        self.power_on(vm.id)
        machine.etcd = True
        if witness:
            await self.store.accounts.grant(new_account(member), witness_permissions(member))
        return NodeConfig(
            member=member,
            name=name,
            kind=NodeKind.WITNESS if witness else NodeKind.DATA,
            vm=vm.id,
            bios_uuid=vm.bios_uuid,
            ha_ip=ip(identity.ha_address),
        )

    async def configure(self, state: ConfigState, *nodes: NodeConfig) -> None:
        """Write a configuration with these nodes."""
        config = ClusterConfig(
            id="c",
            name="lab",
            state=state,
            deployment="AUTO" if state is ConfigState.CONFIGURED else "NONE",
            mode=ClusterMode.ENABLED,
            management=ip("127.83.1.10"),
            ports=Ports(),
            nodes=nodes,
        )
        await cluster_record(self.store).create(config)
        begins = {
            name: value for name, value in patroni_client.WITH_STANDBY.items() if value is not None
        }
        fields = {**begins, "ttl": 20}
        await self.store.put(keys.PATRONI_CONFIG, json.dumps(fields).encode())
        await self.lead(nodes[0].member)

    def kill(self, member: str) -> None:
        """Power off the VM of a member."""
        self.power_off(self.machine(member).identity.vm)

    async def lose_leader(self) -> bool:
        """Cut the leader's power; unless paused, a standby in sync takes over.

        Return whether one did.
        """
        leader = await self.leader() or self.leads
        self.kill(leader)
        named = await self.standbys() if await self.synchronous() else self.streaming()
        heirs = [
            name
            for name in named
            if (machine := self.machine_of(name)) and machine.postgres == "streaming"
        ]
        if heirs and self.quorum() and not any("pause" in on for on in self.going_by.values()):
            await self.lead(heirs[0])
            return True
        return False

    def join(self, files: dict[str, bytes]) -> str:
        """Add a node that a person created and started; it is in no inventory."""
        machine = SimulatedNode(files=files)
        key = f"by hand: {machine.identity.member}"
        self.machines[key] = machine
        self.power_on(key)
        return key

    def add_vm(self, request: VmRequest) -> Vm:
        """Create a VM as the local infrastructure does."""
        vm_uuid = f"uuid-{self.state.next_number}"
        self.state, vm = changes.add_vm(self.state, request, vm_uuid)
        self.machines.setdefault(vm.id, SimulatedNode())
        return vm

    async def delete_vm(self, vm_id: str) -> None:
        """Delete a VM; note a violation if it was the last copy."""
        if vm_id not in self.machines:
            return
        machine = self.machines[vm_id]
        rest = [m.written for other, m in self.machines.items() if other != vm_id]
        if machine.written >= self.acknowledged and max(rest, default=-1) < self.acknowledged:
            self.violations.append(f"{vm_id} was the last copy")
        if machine.joined and machine.identity.member == await self.leader():
            self.violations.append(f"{vm_id} leads and is deleted")
        self.cut(vm_id)
        del self.machines[vm_id]
        self.state, _ = changes.remove_vm(vm_id)(self.state)

    def cut(self, vm_id: str) -> None:
        """Power off on the task's behalf: that must not stop the cluster."""
        before = self.quorum()
        machine = self.machines[vm_id]
        if machine.postgres == "streaming" and machine.identity.member in self.waited_for:
            self.waits.append(f"{machine.identity.member} ended while commits wait for it")
        self.power_off(vm_id)
        self._note_quorum(before, f"{vm_id} was powered off")

    async def end(self) -> None:
        """Power off all nodes."""
        for vm_id in list(self.machines):
            self.power_off(vm_id)

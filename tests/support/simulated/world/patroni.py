"""A simulated Patroni: who leads, who is in sync, and how it follows its settings."""

import asyncio
import json
from typing import Any

from tests.support.simulated.world.node import SimulatedNode
from tests.support.simulated.world.state import SimulatedState

from openvcha.cluster import mode_settings, patroni_client
from openvcha.store import address_reports, keys
from openvcha.store.address_reports import AddressState
from openvcha.store.interface import Delete, value_is

TTL_SECONDS = 20.0
LOOP_SECONDS = 0.5


class SimulatedPatroni(SimulatedState):
    """Leads and replicates, and records when a write that was acknowledged may be lost."""

    async def patroni(self) -> None:
        """Write, replicate, and maintain ``/sync`` as Patroni's leader does. Never returns."""
        while True:
            await self._go_by_settings()
            if self.heals and self.quorum():
                await self._expire()
            await self._loop_once()
            self.woken.clear()
            try:
                async with asyncio.timeout(LOOP_SECONDS):
                    await self.woken.wait()
            except TimeoutError:
                continue

    async def _go_by_settings(self) -> None:
        """Let each running Patroni, and each data node's keeper, follow the mode's settings."""
        for machine in list(self.machines.values()):
            if not machine.on or machine.written < 0 or not machine.postgres:
                continue
            await self._go_by(machine, machine.identity.member)

    async def _go_by(self, machine: SimulatedNode, member: str) -> None:
        if "settings are not heard" in self.faults and member != self.leads:
            return
        on = await mode_settings.requested(self.store)
        self.going_by[member] = on
        tags = dict.fromkeys(on - {keys.PAUSE}, True)
        told = {"state": "running", "pause": keys.PAUSE in on, "tags": tags}
        lease = self.leases[member] = self.leases.get(member) or await self.store.lease_grant(10**6)
        await self.store.put(keys.patroni_member(member), json.dumps(told).encode(), lease)
        named = (await self.config()).node(member) is not None
        out_of_service = keys.DETACHED in on and named
        let_go = out_of_service and member not in await self.standbys()
        if machine.postgres == "streaming" and let_go and "never stops" not in self.faults:
            machine.postgres = "stopped"
        comes_back = not out_of_service and "never streams" not in self.faults
        if machine.postgres == "stopped" and comes_back:
            machine.postgres = "streaming"

    async def _loop_once(self) -> None:
        if self.quorum():
            await self._switch()
        leader = await self.leader()
        primary = self.machine_of(leader) if leader else None
        if leader is None or primary is None or not self.quorum() or primary.postgres != "primary":
            return
        standbys = {
            machine.identity.member: machine
            for machine in self.machines.values()
            if machine.on and machine.postgres == "streaming"
        }
        await self._renew(leader, primary)
        named = await self.standbys()
        if named <= standbys.keys():
            # No commit is acknowledged that the standby in sync does not have.
            primary.written += 1
            self.acknowledged = primary.written
            for name, machine in standbys.items():
                # A standby that commits do not wait for stays behind as far as possible.
                if name in named or await self.synchronous():
                    machine.written = primary.written
        willing = [name for name in standbys if keys.DETACHED not in self.going_by.get(name, ())]
        wanted = next(iter(willing), None)
        if not await self.synchronous():
            await self.store.delete(keys.PATRONI_SYNC)
            self.waited_for = frozenset()
            return
        if "never in sync" in self.faults:
            wanted = None
        if await self.store.get(keys.PATRONI_SYNC) is None:
            await self._write_sync(leader, None)
            await asyncio.sleep(0.05)
        if named != frozenset([wanted] if wanted else []):
            await self._write_sync(leader, wanted)
            await asyncio.sleep(0.05)
        self.waited_for = frozenset([wanted] if wanted else [])

    async def _expire(self) -> None:
        """Expire the leader key of a node that is off; a node with all acknowledged rows leads."""
        now, last = asyncio.get_running_loop().time(), self.machine_of(self.leads)
        if last and last.on and await self.leader():
            self._led = now
        elif await self.leader() == self.leads and now - self._led >= TTL_SECONDS:
            await self.store.delete(keys.PATRONI_LEADER)
        if await self.leader() is None:
            named = await self.standbys() | {self.leads}
            heirs = [name for name in self.streaming() if name in named]
            if heirs:
                await self.lead(heirs[0])

    async def _renew(self, leader: str, primary: SimulatedNode) -> None:
        """Maintain the failsafe key as Patroni does, and renew what the supervisor is to."""
        found = await self.store.get(keys.PATRONI_CONFIG)
        safe = found is not None and json.loads(found.value).get(patroni_client.FAILSAFE)
        known = await patroni_client.failsafe_members(self.store)
        if safe and not known and "no failsafe" not in self.faults:
            await self.store.put(keys.PATRONI_FAILSAFE, json.dumps({leader: "url"}).encode())
        if primary.renewing and "never renewed" not in self.faults:
            if not safe or known != {leader}:
                self.violations.append("the store goes while Patroni would step down for it")
            primary.authority, primary.renewing = primary.authority + 1, False

    async def configure_patroni(self, change: dict[str, Any]) -> None:
        """Change Patroni's configuration; None removes a setting."""
        found = await self.store.get(keys.PATRONI_CONFIG)
        fields = {**json.loads(found.value if found else b"{}"), **change}
        kept = {name: value for name, value in fields.items() if value is not None}
        await self._validate_start_timeout(kept)
        await self.store.put(keys.PATRONI_CONFIG, json.dumps(kept).encode())
        self.woken.set()

    async def _validate_start_timeout(self, fields: dict[str, Any]) -> None:
        """Record a violation if a standby may take over before it is known who has every row."""
        unsaid = await self.store.get(keys.PATRONI_SYNC) is None
        if fields.get("primary_start_timeout") == 0 and unsaid and self.streaming():
            self.violations.append("a standby may lead without what was acknowledged")

    async def _switch(self) -> None:
        """Do as Patroni does when asked to switch over, or when the leader key was handed over."""
        leader = await self.leader()
        old, new = self.machine_of(self.leads), self.machine_of(leader or "")
        for machine in self.machines.values():
            if machine.on and machine.demoted and "never follows" not in self.faults:
                machine.postgres, machine.demoted = "streaming", False
        if new and leader != self.leads and new.postgres == "streaming":
            await self._succeed(old, new)
        found = await self.store.get(keys.PATRONI_FAILOVER)
        wish = json.loads(found.value) if found else {}
        if wish:
            await self._grant(wish)

    async def _grant(self, wish: dict[str, str]) -> None:
        old, new = self.machine_of(wish["leader"]), self.machine_of(wish["member"])
        able = old and new and old.postgres == "primary" and new.postgres == "streaming"
        refused = self.faults & {"refuses once", "refuses"}
        self.faults.discard("refuses once")
        if able and not refused and wish["member"] in await self.standbys():
            await self._stop(old)
            await asyncio.sleep(0.2)
            own = value_is(keys.PATRONI_LEADER, wish["leader"].encode())
            await self.store.txn([own], [Delete(keys.PATRONI_LEADER)])
            await asyncio.sleep(0.2)
            if new and new.postgres == "streaming" and await self.leader() is None:
                await self._succeed(old, new)
        await self.store.put(keys.PATRONI_FAILOVER, b"{}")

    async def _stop(self, machine: SimulatedNode | None) -> None:
        if machine and machine.on:
            machine.postgres, machine.demoted = "", True

    async def _succeed(self, old: SimulatedNode | None, new: SimulatedNode) -> None:
        await self._stop(old)
        if "never promotes" in self.faults:
            return
        if new.written < self.acknowledged:
            self.violations.append(f"{new.identity.member} leads without what was acknowledged")
        await self.lead(new.identity.member)

    async def _write_sync(self, leader: str, standby: str | None) -> None:
        value = {"leader": leader, "sync_standby": standby, "quorum": 0}
        await self.store.put(keys.PATRONI_SYNC, json.dumps(value).encode())

    async def lead(self, member: str) -> None:
        """Make a member the leader, as Patroni does once the leader key is free."""
        if self.machine(member).written < self.acknowledged:
            self.violations.append(f"{member} leads without an acknowledged write")
        self.machine(member).postgres = "primary"
        former, self.leads = self.leads, member
        await self.store.put(keys.PATRONI_LEADER, member.encode())
        await self._write_sync(member, None)
        await self.store.delete(keys.address_report(former))
        await self.report_address(self.address)

    async def report_address(self, state: AddressState | None) -> None:
        """Make this and each further leader report this of the public address; None: nothing."""
        self.address = state
        key = keys.address_report(self.leads)
        if state is None:
            await self.store.delete(key)
        else:
            await self.store.put(key, address_reports.encode(state))

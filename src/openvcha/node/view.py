"""The duty that writes down how the node itself sees the cluster, for when nobody else can say."""

import asyncio
import datetime as dt
from collections.abc import Callable

import msgspec

from openvcha.node.control import DutyView
from openvcha.node.etcd import client_url, client_url_of_peer
from openvcha.node.http import ask
from openvcha.node.identity import url
from openvcha.node.status import Contact, OwnView, Role
from openvcha.node.stuck import standbys
from openvcha.node.tls import NodeTls
from openvcha.store import keys
from openvcha.store.errors import StoreError

LOOK_SECONDS = 1.0
ASK_SECONDS = 3.0
PROBE_SECONDS = 2.0
# An election in the store takes a second or two: that is not yet being cut off.
GRACE_SECONDS = 2.0


async def see(view: DutyView) -> None:
    """Look until canceled."""
    eye = Eye(view)
    while True:
        view.control.show(await eye.look())
        await asyncio.sleep(LOOK_SECONDS)


class Eye:
    """Looks at the cluster from one node, and remembers what was seen last."""

    def __init__(
        self, view: DutyView, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)
    ) -> None:
        self._view = view
        self._now = now
        self._tls = NodeTls(view.layout)
        identity = view.identity
        self._role = Role.UNKNOWN if identity.holds_data else Role.WITNESS
        self._in_sync: bool | None = None
        self._contact = Contact.STARTING
        self._since = now()
        self._silent_since: float | None = None
        self._members = {
            name: client_url_of_peer(peer, identity.ports.etcd_client)
            for name, peer in identity.etcd_initial_cluster.items()
        }

    async def look(self) -> OwnView:
        """Ask the store; while it is silent, ask who of the others is."""
        writable = await self._writable()
        if await self._ask_store():
            self._silent_since = None
            self._set(Contact.CONNECTED)
            return self._seen(writable)
        clock = asyncio.get_running_loop().time
        if self._silent_since is None:
            self._silent_since = clock()
        started = self._contact is not Contact.STARTING
        if started and clock() - self._silent_since >= GRACE_SECONDS:
            self._set(Contact.ISOLATED)
        return self._seen(writable, await self._silent())

    def _set(self, contact: Contact) -> None:
        if contact is not self._contact:
            self._contact, self._since = contact, self._now()

    def _seen(self, writable: bool | None, silent: tuple[str, ...] = ()) -> OwnView:
        since = self._since.isoformat(timespec="seconds")
        return OwnView(
            role=self._role,
            contact=self._contact,
            since=since,
            writable=writable,
            waits_for=silent,
            in_sync=self._in_sync,
        )

    async def _ask_store(self) -> bool:
        store = self._view.store
        try:
            async with asyncio.timeout(ASK_SECONDS):
                leader = await store.get(keys.PATRONI_LEADER)
                sync = await store.get(keys.PATRONI_SYNC)
                members = await store.members()
        except (StoreError, TimeoutError):
            return False
        self._members = {m.name: m.client_urls[0] for m in members if m.name and m.client_urls}
        own = self._view.identity.member
        if self._view.identity.holds_data:
            self._role = _role(leader.value if leader else b"", own)
            self._in_sync = self._role is Role.ACTIVE or own in standbys(sync)
        return own in self._members

    async def _silent(self) -> tuple[str, ...]:
        """Name the other members that do not answer at all."""
        own = client_url(self._view.identity)
        others = {name: at for name, at in self._members.items() if at != own}
        said = await asyncio.gather(
            *(ask(at, "/health", self._tls(), PROBE_SECONDS) for at in others.values())
        )
        return tuple(name for name, answer in zip(others, said, strict=True) if not answer)

    async def _writable(self) -> bool | None:
        """Ask this node's Patroni about its PostgreSQL; None on a witness or without an answer."""
        identity = self._view.identity
        if not identity.holds_data:
            return None
        place = url(identity.ha_address, identity.ports.patroni)
        said = await ask(place, "/patroni", self._tls(), PROBE_SECONDS)
        try:
            fields = msgspec.json.decode((said or b"").partition(b"\r\n\r\n")[2])
        except msgspec.DecodeError:
            return None
        return fields.get("role") in {"primary", "master"} and fields.get("state") == "running"


def _role(leader: bytes, own: str) -> Role:
    if not leader:
        return Role.UNKNOWN
    return Role.ACTIVE if leader == own.encode() else Role.PASSIVE

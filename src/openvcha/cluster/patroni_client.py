"""Patroni from outside: its state in etcd, and its REST API on each data node."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Self

import msgspec

from openvcha.api.prepared import prepare
from openvcha.api.secret import Secret
from openvcha.store import bounded_json, keys
from openvcha.store.http.client import HttpError, Patience, Reply, TlsClient, TlsSource
from openvcha.store.interface import Put, Store, unchanged, value_is
from openvcha.store.patroni.rest import PatroniNode, node_of
from openvcha.store.patroni.state import (
    SyncState,
    parse_sync,
    read_failsafe,
    read_leader,
    read_members,
    sound,
)
from openvcha.store.records import decode
from openvcha.system.network.host_port import url

PROBE_SECONDS = 1.0
START_SECONDS = 120.0  # PostgreSQL may have to recover from a crash


class PatroniUnreachable(Exception):  # noqa: N818 - a state of the world, not a fault of ours
    """A node's Patroni did not respond; the text says why."""


Settings = Mapping[str, Any]
Fields = dict[str, Any]


PROTECTING: Settings = MappingProxyType({"synchronous_mode": True, "primary_start_timeout": 0})
"""Settings of Patroni's dynamic configuration that a cluster has in every mode."""
WITH_STANDBY: Settings = MappingProxyType({**PROTECTING, **dict.fromkeys(keys.SETTINGS)})
"""The same, with those of the modes (None: absent): every cluster begins with these."""
WITHOUT_STANDBY: Settings = MappingProxyType(
    {"synchronous_mode": False, "primary_start_timeout": 300}
)
"""No commit waits for a standby. A primary that crashes restarts itself: a standby that commits did
not wait for must not take over. The settings of a mode stay until the standby is off."""

FAILSAFE = "failsafe_mode"
"""The setting that keeps a primary running without the store, as long as all members that the store
last listed for that (under a key of its own) agree."""


async def failsafe_members(store: Store) -> frozenset[str]:
    """Return the members that the leader must reach while the store is unavailable."""
    found = await store.get(keys.PATRONI_FAILSAFE)
    return frozenset(sound(found.key, read_failsafe(found.value)) if found else ())


async def settings(store: Store) -> Settings:
    """Return those settings of Patroni's dynamic configuration that a cluster depends on."""
    found = await store.get(keys.PATRONI_CONFIG)
    fields = decode(found, Fields) if found else {}
    return {name: fields.get(name) for name in WITH_STANDBY}


async def leader(store: Store) -> str | None:
    """Return the member that holds Patroni's leader key; None when there is none."""
    found = await store.get(keys.PATRONI_LEADER)
    return read_leader(found.value) if found else None


async def sync_state(store: Store) -> SyncState:
    """Read ``/sync``; a missing key means that no standby can take over."""
    found = await store.get(keys.PATRONI_SYNC)
    return parse_sync(found.value if found else b"")


async def revoke_candidacy(store: Store, member: str) -> bool:
    """Remove a member from ``/sync``; False, and no change, while no other member leads.

    Patroni may add it again for as long as the member streams: stop the member at once.
    """
    # Read at one revision: otherwise the member may take the lead between the two.
    leads, sync = await store.get_many((keys.PATRONI_LEADER, keys.PATRONI_SYNC))
    if leads is None or leads.value == member.encode():
        return False
    standbys = parse_sync(sync.value).standbys if sync else frozenset()
    if sync is None or member not in standbys:
        return True
    left = ",".join(sorted(standbys - {member})) or None
    fields = {**decode(sync, Fields), "sync_standby": left}
    return (
        await store.txn(
            [value_is(keys.PATRONI_LEADER, leads.value), unchanged(sync)],
            [Put(keys.PATRONI_SYNC, json.dumps(fields).encode())],
        )
    ).succeeded


async def member_states(store: Store) -> dict[str, str]:
    """Return each registered member's state in Patroni's words (the keys expire with its ttl)."""
    found = await store.prefix(keys.PATRONI_MEMBERS)
    return {name: one.state for name, one in read_members(found).items()}


class PatroniClient:
    """A client of Patroni's REST API on all data nodes, over mutual TLS."""

    def __init__(
        self, tls: TlsSource, user: str, password: Callable[[], Secret], port: int
    ) -> None:
        self._port = port
        self._auth = (user, password)
        self._http = TlsClient(tls)

    async def __aenter__(self) -> Self:
        """Use the client as a context manager, which closes its connections."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def node(self, address: str) -> PatroniNode:
        """Return the state of one node. Raises PatroniUnreachable."""
        return node_of(await self._json("GET", address, "/patroni"))

    async def wake(self, address: str) -> None:
        """Run the leader's loop now, by removing a setting that does not exist."""
        await self._json("PATCH", address, "/config", {"openvcha_wake": None})

    async def start(self, address: str) -> None:
        """Start PostgreSQL under a paused Patroni, in the role that its data imply.

        A refusal is ignored: Patroni is already starting it, or logs the reason.
        """
        await self._request("POST", address, "/restart", {}, START_SECONDS)

    async def configure(self, address: str, change: dict[str, Any]) -> None:
        """Change Patroni's dynamic configuration (merged; None removes a key)."""
        await self._json("PATCH", address, "/config", change)

    async def _json(
        self, method: str, address: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        reply = await self._request(method, address, path, body)
        # /patroni returns 503 with the same body while PostgreSQL is not running.
        if reply.status not in {200, 503}:
            raise PatroniUnreachable(f"Patroni at {address}: HTTP {reply.status} on {path}")
        fields = bounded_json.json_object(reply.content)
        if fields is None:
            raise PatroniUnreachable(f"Patroni at {address}: no JSON object on {path}")
        return fields

    async def _request(
        self,
        method: str,
        address: str,
        path: str,
        body: dict[str, Any] | None,
        seconds: float = PROBE_SECONDS,
    ) -> Reply:
        try:
            return await self._http.request(
                method,
                url(address, self._port) + path,
                bounded_json.MAX_BYTES,
                Patience(PROBE_SECONDS, seconds),
                content=b"" if body is None else msgspec.json.encode(body),
                headers=self._shown(),
            )
        except (HttpError, OSError) as error:
            raise PatroniUnreachable(f"Patroni at {address}: {error}") from error

    def _shown(self) -> dict[str, str]:
        user, password = self._auth
        token = b64encode(f"{user}:{password().reveal()}".encode()).decode()
        return {"Authorization": f"Basic {token}"}


prepare(__name__)

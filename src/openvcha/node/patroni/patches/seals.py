"""Patroni uses only values that data nodes have written, and seals what it writes.

Three of the values that Patroni 4.1 reads in etcd name programs or servers: the dynamic
configuration, the members, and the members to ask while etcd is unavailable. Those without the seal
of a data node are removed before Patroni sees them. Without a configuration it keeps the last one,
and the leader writes that one again. The seals are those of ``openvcha.store.sealing.seal``.
"""

import logging
import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from openvcha.api.secret import Secret
from openvcha.node.etcd.record_keys import RecordKeys
from openvcha.node.patroni.patches.key_forms import is_formed, replacement_of
from openvcha.node.patroni.patches.rpc import ask, install_check
from openvcha.store import keys
from openvcha.store.bounded_json import exceeded_limit, json_object
from openvcha.store.errors import RecordForged
from openvcha.store.patroni.state import MemberState, Unreadable, read_failsafe, read_member
from openvcha.store.sealing.seal import RESERVED, KeyVersion, Seals, canonical

CONFIG, FAILSAFE, MEMBERS = "config", "failsafe", "members/"

_log = logging.getLogger(__name__)

Nodes = dict[str, dict[str, Any]]
FromNodes = Callable[[Any, Nodes], Any]
Configure = Callable[..., bool]
Touch = Callable[[Any, dict[str, Any]], bool]

REPLACES = {
    "patroni.dcs.etcd3:Etcd3._cluster_from_nodes": "9aafa69417ed6255",
    "patroni.dcs.etcd3:Etcd3.touch_member": "4c67061db0af50be",
    "patroni.dcs.etcd3:Etcd3.set_config_value": "dca1f9dfd84a1581",
}


def install() -> None:
    """Patch the loaded Patroni. Raises AttributeError for another version."""
    etcd3 = import_module("patroni.dcs.etcd3")
    store: Any = etcd3.Etcd3
    install_check(etcd3.PatroniEtcd3Client)
    for needed in ("handle_etcd_exceptions", "config_path", "member_path"):
        getattr(store, needed)
    sealing = Sealing(Seals(RecordKeys(Path(sys.argv[1]).parent)))
    store._cluster_from_nodes = sealing.reading(store._cluster_from_nodes)  # noqa: SLF001 - there is no other handle
    store.touch_member = sealing.telling(store.touch_member)
    store.set_config_value = sealing.configuring()


@dataclass(frozen=True, slots=True)
class Passed:
    """A reply that was verified with these keys, and the value that Patroni got from it."""

    by: Sequence[Secret]
    node: dict[str, Any]
    value: str


class Sealing:
    """Replacements of Patroni's methods that verify seals on reading and add them on writing."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals
        self._passed: dict[str, Passed] = {}
        self._told: frozenset[str] = frozenset()
        self._places: dict[str, str] = {}
        self._written: dict[str, KeyVersion] = {}

    def reading(self, original: FromNodes) -> FromNodes:
        """Build Patroni's view of the cluster from sealed values only."""

        def cluster_from_nodes(store: Any, nodes: Nodes) -> Any:
            return original(store, self.checked(nodes))

        return cluster_from_nodes

    def telling(self, original: Touch) -> Touch:
        """Seal this member's own record."""

        def touch_member(store: Any, data: dict[str, Any]) -> bool:
            place = KeyVersion(keys.PATRONI_MEMBERS + store._name, 0, 0, lease=False)  # noqa: SLF001 - as above
            return original(store, self._seals.seal_fields(place, data))

        return touch_member

    def configuring(self) -> Configure:
        """Write the dynamic configuration, unless it has changed since ``version``."""

        def set_config_value(store: Any, value: str, version: str | None = None) -> bool:
            return bool(store.handle_etcd_exceptions(self._configure, value, version))

        return set_config_value

    def checked(self, nodes: Nodes) -> Nodes:
        """Return the nodes, except those that lack a valid seal or are unreadable.

        ``nodes`` are etcd's replies by their short names.
        """
        refused: set[str] = set()
        found: Nodes = {}
        by, before, self._passed = self._seals.known, self._passed, {}
        for name, node in nodes.items():
            try:
                found[name] = self._passing(name, node, by, before.get(name))
            except (RecordForged, ValueError):
                refused.add(name)
                if (instead := replacement_of(name)) is not None:
                    found[name] = {**node, "value": instead}
        registered = self._learn(found)
        if FAILSAFE in found and not self._known(found[FAILSAFE]["value"], registered):
            refused.add(FAILSAFE)
            del found[FAILSAFE]
        self._tell(frozenset(refused))
        return found

    def _passing(
        self, name: str, node: dict[str, Any], by: Sequence[Secret], before: Passed | None
    ) -> dict[str, Any]:
        """Verify a node, unless it is unchanged since the last time: Patroni reads every second."""
        if before is not None and before.by is by and before.node == node:
            self._passed[name] = before
            return {**node, "value": before.value}
        found = self._node(name, node)
        if "version" in node or name != CONFIG:  # else only the last value written passes
            self._passed[name] = Passed(by, dict(node), found["value"])
        return found

    def _node(self, name: str, node: dict[str, Any]) -> dict[str, Any]:
        if exceeded_limit(node["value"].encode(errors="surrogatepass")):
            raise RecordForged(keys.PATRONI + name)  # Patroni itself would fail on it
        if name == CONFIG:
            return {**node, "value": self._config(node)}
        if name.startswith(MEMBERS):
            place = KeyVersion(keys.PATRONI + name, 0, 0, lease=False)
            self._seals.unseal_fields(place, json_object(node["value"]))
        if not is_formed(name, node["value"]):
            raise RecordForged(keys.PATRONI + name)
        return node

    def _config(self, node: dict[str, Any]) -> str:
        # A value that this process has written has no version until etcd reports it.
        place = self._place(node) if "version" in node else self._written.get(node["value"])
        if place is None:
            raise RecordForged(keys.PATRONI_CONFIG)
        fields = self._seals.unseal_fields(place, json_object(node["value"]))
        return canonical(fields).decode()

    def _place(self, node: dict[str, Any]) -> KeyVersion:
        """Return the place of the configuration. Raises ValueError for mismatched revisions."""
        return KeyVersion(
            keys.PATRONI_CONFIG,
            int(node.get("create_revision", 0)),
            int(node["version"]),
            bool(int(node.get("lease") or 0)),
        )

    def _learn(self, nodes: Nodes) -> frozenset[str]:
        """Return the registered members, and remember their addresses.

        Patroni may still have to ask members that are gone.
        """
        registered = set()
        for key, node in nodes.items():
            member = read_member(node["value"]) if key.startswith(MEMBERS) else None
            if isinstance(member, MemberState) and member.api_url:
                name = key.removeprefix(MEMBERS)
                self._places[name] = member.api_url
                registered.add(name)
        return frozenset(registered)

    def _known(self, failsafe: str, registered: frozenset[str]) -> bool:
        """Return whether a value names all registered members, and others only as they were.

        A primary that is named alone would go on without the store although another node may have
        taken over. Its Patroni writes the value again when a member has registered since.
        """
        asked = read_failsafe(failsafe)
        if isinstance(asked, Unreadable) or not asked or not registered.issubset(asked):
            return False
        return all(
            place is not None and self._places.get(name) == place for name, place in asked.items()
        )

    def _tell(self, refused: frozenset[str]) -> None:
        if refused != self._told:
            self._told = refused
            for name in sorted(refused)[:10]:
                _log.warning(
                    "ignoring a record that is unreadable or was not written by a data node: %s",
                    ascii(name[:100]),
                )

    def _configure(self, store: Any, value: str, version: str | None) -> bool:
        found = _read(store)
        if found is None:
            if version is not None:
                return False
            store._client.put(store.config_path, RESERVED.decode(), create_revision="0")  # noqa: SLF001 - as above
            found = _read(store)
        if found is None or (version is not None and str(found["mod_revision"]) != str(version)):
            return False
        place = KeyVersion(
            keys.PATRONI_CONFIG,
            int(found["create_revision"]),
            int(found["version"]) + 1,
            lease=False,
        )
        sealed = self._seals.seal(place, value.encode()).decode()
        mod = found["mod_revision"]
        self._written = {sealed: place}  # before the reply: a cache may receive it first
        return bool(store._client.put(store.config_path, sealed, mod_revision=mod))  # noqa: SLF001 - as above


def _read(store: Any) -> dict[str, Any] | None:
    """Read the configuration from etcd itself: a seal covers the version of the new value."""
    key = {"key": b64encode(store.config_path.encode()).decode()}
    found = ask(store._client, "/kv/range", key).get("kvs", [])  # noqa: SLF001 - as above
    return dict(found[0]) if found else None

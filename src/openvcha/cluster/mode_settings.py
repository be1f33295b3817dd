"""The settings of a mode: those that are requested, and those that each Patroni already applies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openvcha.cluster.patroni_client import FAILSAFE, PROTECTING
from openvcha.store import keys
from openvcha.store.interface import KeyValue, Store
from openvcha.store.patroni.dynamic import sift
from openvcha.store.patroni.state import Unreadable, leader_ttl, read_config, read_members
from openvcha.store.records import Record

Dynamic = dict[str, Any]
NOTHING = sift(None)


def record(store: Store) -> Record[Dynamic]:
    """Return Patroni's dynamic configuration as a compare-and-set record."""
    return Record(store, keys.PATRONI_CONFIG, Dynamic)


@dataclass(frozen=True)
class DynamicSettings:
    """The settings that are on, and the names of those that no Patroni accepts.

    ``unfit`` maps each other setting with a wrong value to the value that a cluster needs.
    ``leader_ttl`` (seconds) is None if it is unknown.
    """

    on: frozenset[str]
    refused: tuple[str, ...]
    unfit: Mapping[str, object] = field(default_factory=dict)
    leader_ttl: int | None = None


async def read(store: Store) -> DynamicSettings:
    """Read the dynamic configuration as every Patroni does."""
    return parse(await store.get(keys.PATRONI_CONFIG))


def parse(found: KeyValue | None) -> DynamicSettings:
    """Parse the value of the dynamic configuration."""
    if found is None:
        return DynamicSettings(frozenset(), ())
    config = read_config(found.value)
    sifted = NOTHING if isinstance(config, Unreadable) else config
    on = frozenset(name for name in keys.SETTINGS if sifted.kept.get(name))
    return DynamicSettings(on, sifted.refused, _unfit(sifted.kept), leader_ttl(config))


def _unfit(kept: Mapping[str, object]) -> Mapping[str, object]:
    needed = {name: value for name, value in PROTECTING.items() if kept.get(name) != value}
    return {**needed, FAILSAFE: False} if kept.get(FAILSAFE) else needed


async def requested(store: Store) -> frozenset[str]:
    """Return the settings that are on in the dynamic configuration."""
    return (await read(store)).on


async def effective(store: Store) -> dict[str, frozenset[str]]:
    """Return by member the settings that its Patroni applied in its last cycle.

    Patroni writes them at the end of a cycle, as it read them at its beginning. A silent member is
    soon missing: its key expires.
    """
    found = await store.prefix(keys.PATRONI_MEMBERS)
    return {name: one.settings for name, one in read_members(found).items()}


def with_setting(fields: Dynamic, name: str, value: bool) -> Dynamic:
    """Return the dynamic configuration with one setting switched on or off."""
    rest = {key: kept for key, kept in fields.items() if key != name}
    return {**rest, name: True} if value else rest

"""A mode's settings: those that are asked for, and those that each Patroni acts on already."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openvcha.cluster.patroni_client import FAILSAFE, PROTECTING
from openvcha.store import keys
from openvcha.store.interface import KeyValue, Store
from openvcha.store.patroni.dynamic import sift
from openvcha.store.patroni.state import Unreadable, read_config, read_members
from openvcha.store.records import Record

Dynamic = dict[str, Any]
NOTHING = sift(None)


def record(store: Store) -> Record[Dynamic]:
    """Return Patroni's dynamic configuration as a compare-and-set record."""
    return Record(store, keys.PATRONI_CONFIG, Dynamic)


@dataclass(frozen=True)
class Looked:
    """The settings that are on, and the names of what no Patroni takes although it stands there.

    ``unfit`` maps each other setting that is not as a cluster needs it to what it should be.
    """

    on: frozenset[str]
    refused: tuple[str, ...]
    unfit: Mapping[str, object] = field(default_factory=dict)


async def look(store: Store) -> Looked:
    """Read the dynamic configuration as every Patroni does."""
    return looked(await store.get(keys.PATRONI_CONFIG))


def looked(found: KeyValue | None) -> Looked:
    """Judge the dynamic configuration as it was read."""
    if found is None:
        return Looked(frozenset(), ())
    config = read_config(found.value)
    sifted = NOTHING if isinstance(config, Unreadable) else config
    on = frozenset(name for name in keys.SETTINGS if sifted.kept.get(name))
    return Looked(on, sifted.refused, _unfit(sifted.kept))


def _unfit(kept: Mapping[str, object]) -> Mapping[str, object]:
    needed = {name: value for name, value in PROTECTING.items() if kept.get(name) != value}
    return {**needed, FAILSAFE: False} if kept.get(FAILSAFE) else needed


async def wanted(store: Store) -> frozenset[str]:
    """Return the settings that are on in the dynamic configuration."""
    return (await look(store)).on


async def effective(store: Store) -> dict[str, frozenset[str]]:
    """Return by member what its Patroni went by in its last round; a silent one is soon not there.

    Patroni itself writes this at the end of a round, with what it read at the round's beginning.
    """
    found = await store.prefix(keys.PATRONI_MEMBERS)
    return {name: one.settings for name, one in read_members(found).items()}


def switched(fields: Dynamic, name: str, value: bool) -> Dynamic:
    """Return the dynamic configuration with one setting on or off."""
    rest = {key: kept for key, kept in fields.items() if key != name}
    return {**rest, name: True} if value else rest

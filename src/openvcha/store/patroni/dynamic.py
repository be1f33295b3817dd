"""The allow-list of settings that Patroni accepts from its configuration in the store. Pure.

Any member of the store, including the witness, can write anything there. Patroni's dynamic
configuration could name programs, libraries and files; here it can only set what a cluster itself
sets, and numbers. Everything else is fixed in a data node's own `patroni.yml`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from openvcha.store import keys

Settings = Mapping[str, Any]
Check = Callable[[Any], bool]

LONGEST_SHOWN: Final = 64
MOST_SHOWN: Final = 20
MOST_MATCHERS: Final = 100
_AMOUNT = re.compile(r"-?\d{1,18}(\.\d{1,6})? ?(B|kB|MB|GB|TB|us|ms|s|min|h|d)?")
_SLOT_FIELDS = frozenset({"name", "type", "database", "plugin"})


@dataclass(frozen=True)
class Sifted:
    """The accepted settings, and the names (dotted, bounded) of the refused ones."""

    kept: dict[str, Any]
    refused: tuple[str, ...]


def sift(fields: object) -> Sifted:
    """Return the allowed settings. Anything but an object is refused as a whole."""
    if not isinstance(fields, dict):
        return Sifted({}, ("the whole configuration",))
    kept, refused = _level(fields, _ALLOWED, "")
    shown = [name[:LONGEST_SHOWN] for name in sorted(refused)]
    return Sifted(kept, tuple(shown[:MOST_SHOWN]))


def _level(
    fields: Mapping[Any, Any], allowed: Mapping[str, Any], above: str
) -> tuple[dict[str, Any], list[str]]:
    kept: dict[str, Any] = {}
    refused: list[str] = []
    for name, value in fields.items():
        rule = allowed.get(name)
        if isinstance(rule, Mapping) and isinstance(value, dict):
            kept[name], inner = _level(value, rule, f"{above}{name}.")
            refused += inner
        elif callable(rule) and rule(value):
            kept[name] = value
        else:
            refused.append(f"{above}{name}")
    return kept, refused


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _between(least: int, most: int) -> Check:
    def check(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return check


def _amount(value: Any) -> bool:
    """Allow a number, or a size or a duration with its unit."""
    if isinstance(value, str):
        return _AMOUNT.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _switch(value: Any) -> bool:
    return isinstance(value, bool) or value in {"on", "off", "true", "false"}


def _one_of(*words: str) -> Check:
    return lambda value: isinstance(value, str) and value in words


def _matchers(value: Any) -> bool:
    """Allow slots to ignore, given as texts that are only compared."""
    return (
        isinstance(value, list)
        and len(value) <= MOST_MATCHERS
        and all(
            isinstance(each, dict)
            and set(each) <= _SLOT_FIELDS
            and all(isinstance(text, str) for text in each.values())
            for each in value
        )
    )


_PARAMETERS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "wal_level": _one_of("replica", "hot_standby", "logical"),
        "wal_log_hints": _one_of("on"),
        "hot_standby": _one_of("on"),
        "track_commit_timestamp": _switch,
        **dict.fromkeys(
            (
                "max_connections",
                "max_wal_senders",
                "max_replication_slots",
                "max_worker_processes",
                "max_prepared_transactions",
                "max_locks_per_transaction",
                "max_parallel_workers",
                "max_parallel_workers_per_gather",
                "wal_keep_size",
                "max_slot_wal_keep_size",
                "max_wal_size",
                "min_wal_size",
                "wal_buffers",
                "shared_buffers",
                "effective_cache_size",
                "work_mem",
                "maintenance_work_mem",
                "checkpoint_timeout",
                "checkpoint_completion_target",
                "random_page_cost",
                "effective_io_concurrency",
            ),
            _amount,
        ),
    }
)

_HOUR, _MANY = 3600, 1 << 40
_ALLOWED: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "ttl": _between(1, _HOUR),
        "loop_wait": _between(1, _HOUR),
        "retry_timeout": _between(1, _HOUR),
        "primary_start_timeout": _between(0, _HOUR),
        "primary_stop_timeout": _between(0, _HOUR),
        "maximum_lag_on_failover": _between(0, _MANY),
        "maximum_lag_on_syncnode": _between(-1, _MANY),
        "max_timelines_history": _between(0, _MANY),
        "check_timeline": _flag,
        "synchronous_mode": _flag,
        "synchronous_mode_strict": _flag,
        "synchronous_node_count": _between(1, 10),
        "failsafe_mode": _flag,
        "member_slots_ttl": _amount,
        "ignore_slots": _matchers,
        **dict.fromkeys(keys.SETTINGS, _flag),
        "postgresql": MappingProxyType(
            {"use_pg_rewind": _flag, "use_slots": _flag, "parameters": _PARAMETERS}
        ),
    }
)

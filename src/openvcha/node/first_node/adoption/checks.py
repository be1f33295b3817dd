"""Whether a data directory can become the first node's, and what changes for it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from openvcha.node.first_node.adoption.data import AUTO_SETTINGS, RUNS, SHUT_DOWN, Data
from openvcha.node.first_node.findings import Finding
from openvcha.node.postgres.own_names import REPLICATION_USER, REWIND_USER, SUPERUSER
from openvcha.node.postgres.settings import is_owned, is_vital, shared_settings

SUBJECT = "adoption"
SHOWN = 5
"""How many entries of a list a finding names."""
FREE_BYTES: Final = 256 << 20
PLAIN_MODES = frozenset({0o700, 0o750})
PATRONI_DEFAULTS: Mapping[str, str] = {
    "max_prepared_transactions": "0",
    "max_worker_processes": "8",
    "max_locks_per_transaction": "64",
    "track_commit_timestamp": "off",
}
"""What Patroni gives to PostgreSQL where the cluster sets nothing, whatever its files say."""
_MUST_BE_ON = ("fsync", "full_page_writes")
_MUST_BE_EMPTY = (
    *("restore_command", "recovery_target", "recovery_target_name", "recovery_target_time"),
    *("recovery_target_xid", "recovery_target_lsn"),
)


@dataclass(frozen=True)
class Target:
    """Where the data go: the node's account, and the file system of its directory.

    ``in_place``: they are already where the node has its data. ``may_move``: the account may take
    them out of their folder.
    """

    uid: int
    account: str
    device: int
    free_bytes: int
    copy: bool
    in_place: bool
    may_move: bool
    installed: Sequence[str]
    """The preloaded libraries that are installed for the node's PostgreSQL."""


def check_adoption(data: Data, target: Target) -> list[Finding]:
    """Return all findings; a single refusal means that nothing is done."""
    refused = [*_state(data), *_places(data), *_owners(data, target), *_transport(data, target)]
    refused += _settings(data)
    findings = [Finding.refused(SUBJECT, text) for text in refused]
    notes = [*_changes(data), *_slots(data), *_libraries(data, target), *_access(data)]
    findings += [Finding.note(SUBJECT, text) for text in notes]
    if not refused:
        how = "copied from" if target.copy else "taken from"
        kept = f"system {data.system}, PostgreSQL {data.major}, {data.size >> 20} MiB"
        findings.insert(0, Finding.ok(SUBJECT, f"{kept}: {how} {data.path}"))
    return findings


def _state(data: Data) -> Iterator[str]:
    state = data.control.get("Database cluster state", "unknown")
    if RUNS in data.signs:
        yield (
            f"a server may be running in {data.path}, which has a postmaster.pid: stop it with"
            " `pg_ctl stop` or its service; if none is running, start and stop it once"
        )
    elif state != SHUT_DOWN:
        yield (
            f"its server was not shut down cleanly as a primary (pg_control says {state!r}): start"
            " it, promote it if it is a standby, and stop it with `pg_ctl stop -m fast`"
        )
    signs = [name for name in data.signs if name != RUNS]
    if signs:
        yield (
            f"{_some(signs)}: these data belong to a standby, to a recovery, or to a backup that"
            " was never started: start them as a primary first"
        )
    if data.prepared:
        yield (
            f"{data.prepared} prepared transactions are open: end them first (COMMIT PREPARED or"
            " ROLLBACK PREPARED), because the cluster runs with max_prepared_transactions = 0"
        )


def _places(data: Data) -> Iterator[str]:
    tablespaces = [each for each in data.links if each.startswith("pg_tblspc/")]
    if tablespaces:
        yield (
            f"{len(tablespaces)} tablespaces are outside the data directory ({_some(tablespaces)}),"
            " and a base backup would not copy them: move their contents (ALTER … SET TABLESPACE"
            " pg_default) and drop them"
        )
    if "pg_wal" in data.links:
        yield (
            "pg_wal is a symbolic link, which a base backup does not follow: with the server"
            " stopped, replace it with the directory itself"
        )
    others = sorted({*data.links} - {*tablespaces, "pg_wal"})
    if others:
        yield f"a base backup does not follow symbolic links: replace {_some(others)}"


def _owners(data: Data, target: Target) -> Iterator[str]:
    if data.owner != target.uid:
        yield (
            f"{data.path} belongs to the user {data.owner}, but the node runs as {target.account}"
            f" ({target.uid}): set node.user, or change the owner of all files"
        )
    if data.foreign:
        yield f"another account owns {_some(data.foreign)}: change the owner of all files"
    if data.mode not in PLAIN_MODES:
        yield (
            f"the mode of {data.path} is {data.mode:04o}, which PostgreSQL refuses:"
            f" chmod 0700 {data.path}"
        )


def _transport(data: Data, target: Target) -> Iterator[str]:
    if target.in_place:
        return
    if target.copy:
        need = data.size + FREE_BYTES
        if target.free_bytes < need:
            yield (
                f"a copy needs {need >> 20} MiB, but the node's file system has"
                f" {target.free_bytes >> 20} MiB: free space, or move instead"
            )
    elif data.device != target.device:
        yield (
            f"{data.path} is on a different file system than the node's directory, so it cannot be"
            " renamed: choose a node.directory beside it, or postgresql.adopt_by = copy (--copy)"
        )
    elif not target.may_move:
        yield (
            f"{target.account} cannot rename {data.path}, because it cannot write to the parent"
            " directory: change that directory's owner, or use postgresql.adopt_by = copy (--copy)"
        )


def _settings(data: Data) -> Iterator[str]:
    if not data.has_settings_file:
        yield (
            f"{data.path} has no postgresql.conf: set postgresql.settings_file (--settings-file);"
            " Debian keeps the file in /etc/postgresql/VERSION/NAME"
        )
    same = {name: str(value) for name, value in shared_settings().items()}
    set_ = {name: value for name, value in data.own_settings.items() if same.get(name) != value}
    vital = [name for name, value in set_.items() if is_vital(name, {name: value})]
    if vital:
        yield (
            f"{AUTO_SETTINGS} sets {_some(vital)}, which the cluster must set itself: run ALTER"
            " SYSTEM RESET in the running server, or delete these lines"
        )
    off = [name for name in _MUST_BE_ON if data.settings.get(name, "on") != "on"]
    if off:
        yield f"{_some(off)} is off, so a crash could damage the data: remove it from the settings"
    recovery = [name for name in _MUST_BE_EMPTY if data.settings.get(name)]
    if data.settings.get("recovery_min_apply_delay", "0") not in {"0", "0ms"}:
        recovery.append("recovery_min_apply_delay")
    if recovery:
        yield (
            f"{_some(recovery)}: every standby of the cluster would obey this instead of following"
            " the active; remove it from the settings"
        )
    logical = [slot.name for slot in data.slots if slot.logical]
    if logical:
        yield (
            f"logical replication slots ({_some(logical)}) need wal_level = logical, but the"
            " cluster runs with replica: drop the subscriptions or the slots first"
        )


def _changes(data: Data) -> Iterator[str]:
    """Yield the settings that get another value, whatever the files say."""
    wanted = {**PATRONI_DEFAULTS, **{n: str(v) for n, v in shared_settings().items()}}
    changed = [
        f"{name} {data.settings[name]} -> {value}"
        for name, value in wanted.items()
        if name in data.settings and data.settings[name] != value
    ]
    if changed:
        yield f"the cluster sets {', '.join(changed)}"
    owned = [n for n, v in data.own_settings.items() if is_owned(n, v)]
    if owned:
        yield (
            f"{AUTO_SETTINGS} overrides settings of the cluster: run ALTER SYSTEM RESET for"
            f" {_some(owned)}"
        )
    if data.control.get("Data page checksum version") == "0":
        yield (
            "the data have no checksums, so damaged pages go unnoticed; `pg_checksums --enable`"
            " adds them while the server is stopped. Rewinding works anyway: wal_log_hints is on"
        )


def _slots(data: Data) -> Iterator[str]:
    physical = [slot.name for slot in data.slots if not slot.logical]
    if physical:
        yield (
            f"replication slots stay ({_some(physical)}), each with up to 4 GB of write-ahead log;"
            " after a failover, the new active does not have them. Drop those of former standbys"
        )


def _libraries(data: Data, target: Target) -> Iterator[str]:
    missing = [name for name in data.libraries if name not in target.installed]
    if missing:
        yield (
            f"shared_preload_libraries names {_some(missing)}, which this PostgreSQL lacks: install"
            " them, or the server will not start"
        )
    if data.libraries:
        yield f"install what shared_preload_libraries names ({_some(data.libraries)}) on both nodes"
    if data.settings.get("archive_mode", "off") != "off":
        yield "archive_mode and archive_command stay: the active node archives"


def _access(data: Data) -> Iterator[str]:
    del data
    own = f"{SUPERUSER}, {REPLICATION_USER} and {REWIND_USER}"
    yield (
        f"the roles {own} become the cluster's: they are created, or get new passwords. All other"
        f" roles, databases and rows stay; if {SUPERUSER} is your only superuser, create another"
        " one in the running server first"
    )
    yield (
        "pg_hba.conf is replaced: every role logs in over TLS with its password (scram-sha-256),"
        " from any address; there is no local socket. A role with an MD5 password needs a new one"
    )
    yield (
        "postgresql.conf becomes postgresql.base.conf, and the cluster's settings override it. The"
        " files as they were are kept in the node's directory, in adopted/"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"

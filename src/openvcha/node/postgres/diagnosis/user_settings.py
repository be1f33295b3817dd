"""Settings of users in this node's PostgreSQL that override the cluster's, and their effects.

Patroni writes ``postgresql.conf``. ``ALTER SYSTEM`` writes another file, which takes precedence and
is part of every base backup.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvcha.node.postgres.log import sanitize
from openvcha.node.postgres.member_slots import MemberSlots
from openvcha.node.postgres.own_names import REPLICATION_USER, REWIND_USER
from openvcha.node.postgres.own_roles import EVENT_TRIGGERS, REWIND_DEFAULTS
from openvcha.node.postgres.settings import EARLY, is_owned, is_vital, shared_settings
from openvcha.store.node_facts import Override, PostgresFacts

if TYPE_CHECKING:
    from psycopg import AsyncConnection

MAX_ENTRIES = 20
OWN_FILES = ("postgresql.conf", "postgresql.base.conf")
SETTINGS = """
    select shown.name, coalesce(written.setting, shown.setting),
           coalesce(written.sourcefile, shown.sourcefile),
           pending_restart and source <> 'command line'
      from pg_settings as shown
      left join (select distinct on (lower(name)) lower(name) as name, setting, sourcefile
                   from pg_file_settings order by lower(name), seqno desc) as written
             on written.name = lower(shown.name) and shown.source = 'client'
"""
"""The options of our own session hide the values in files: for them the last line of all counts.

PostgreSQL also lists lines for settings of the command line, which have no effect.
"""
PRELOADED = """
    select distinct on (name) name, setting from pg_file_settings
     where name in ('shared_preload_libraries', 'session_preload_libraries',
                    'local_preload_libraries')
     order by name, seqno desc
"""
"""The values after a restart: the last line of all files."""
LIBRARIES = "select setting from pg_config where name = 'PKGLIBDIR'"
SLOTS = """
    select slot_name from pg_replication_slots
     where not temporary and not (slot_type = 'physical' and slot_name = any(%s)) order by 1
"""
"""Without those that the cluster has created for its members."""
ROLES = """
    select rolname, setting from pg_db_role_setting
      join pg_roles on pg_roles.oid = setrole, unnest(setconfig) as setting
     where rolname = any(%s)
       and not (setdatabase = (select oid from pg_database where datname = current_database())
                and split_part(setting, '=', 1) = any(%s)) order by 1, 2
"""
"""Without what the cluster itself sets for its role."""
COMMITS = """
    select case when setrole = 0 and setdatabase = 0 then 'ROLE ALL'
                when setrole = 0 then 'DATABASE ' || quote_ident(datname)
                when setdatabase = 0 then 'ROLE ' || quote_ident(rolname)
                else 'ROLE ' || quote_ident(rolname) || ' IN DATABASE ' || quote_ident(datname) end,
           split_part(setting, '=', 2)
      from pg_db_role_setting
      left join pg_database on pg_database.oid = setdatabase
      left join pg_roles on pg_roles.oid = setrole, unnest(setconfig) as setting
     where split_part(setting, '=', 1) = 'synchronous_commit' order by 1
"""
"""The scopes, as in ALTER, in which commits wait for something other than the server's default."""
COLLATIONS_SINCE = 150000
COLLATIONS = """
    select datname, datcollversion, coalesce(pg_database_collation_actual_version(oid), 'none')
      from pg_database
     where datcollversion <> coalesce(pg_database_collation_actual_version(oid), '') order by 1
"""

Rows = Sequence[tuple[Any, ...]]


async def survey(connection: "AsyncConnection[Any]", own_slots: MemberSlots) -> PostgresFacts:
    """Return the facts of a node's own PostgreSQL. Raises psycopg.Error."""

    async def rows(query: str, *arguments: object) -> Rows:
        return await (await connection.execute(query.encode(), arguments or None)).fetchall()

    settings = await rows(SETTINGS)
    folder = (await rows(LIBRARIES))[0][0]
    names = [name for _, value in await rows(PRELOADED) for name in _names(value)]
    roles = await rows(ROLES, [REPLICATION_USER, REWIND_USER], [*REWIND_DEFAULTS, EVENT_TRIGGERS])
    commits = await rows(COMMITS)
    dated = connection.info.server_version >= COLLATIONS_SINCE
    orders = await rows(COLLATIONS) if dated else ()
    return PostgresFacts(
        overrides=overrides(settings)[:MAX_ENTRIES],
        pending_restart=tuple(name for name, _, _, pending in settings if pending)[:MAX_ENTRIES],
        missing_libraries=missing(names, Path(folder))[:MAX_ENTRIES],
        slots=tuple(name for (name,) in await rows(SLOTS, list(own_slots.made)))[:MAX_ENTRIES],
        dropped_slots=own_slots.dropped,
        roles=tuple(f"{role}: {sanitize(value)}" for role, value in roles)[:MAX_ENTRIES],
        commits=tuple(
            sanitize(f"{whose}: {value}") for whose, value in commits if value.lower() in EARLY
        )[:MAX_ENTRIES],
        shared={name: value for name, value, _, _ in settings if name in shared_settings()},
        collations=tuple(sanitize(f"{name} with {was}, here {now}") for name, was, now in orders)[
            :MAX_ENTRIES
        ],
    )


def overrides(settings: Rows) -> tuple[Override, ...]:
    """Return the cluster's settings that are overridden by a file that it does not write.

    Its own files are recognized by name: a directory may have more than one path.
    """
    values = {name: value for name, value, _, _ in settings}
    return tuple(
        Override(name=name, value=sanitize(value), file=file, vital=is_vital(name, values))
        for name, value, file, _ in settings
        if file and Path(file).name not in OWN_FILES and is_owned(name, value)
    )


def missing(names: Iterable[str], folder: Path) -> tuple[str, ...]:
    """Return the libraries that are missing where PostgreSQL looks for them."""
    return tuple(dict.fromkeys(name for name in names if not _path(name, folder).exists()))


def _path(name: str, folder: Path) -> Path:
    path = Path(name.replace("$libdir", str(folder)))
    return (folder / path).with_name(path.name if path.suffix == ".so" else f"{path.name}.so")


def _names(value: str) -> list[str]:
    return [name for part in value.split(",") if (name := part.strip().strip("\"'"))]

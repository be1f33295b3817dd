"""The cluster's own roles keep what they need, whatever users take from everybody.

``REVOKE CONNECT ON DATABASE postgres FROM PUBLIC`` is common advice, and would leave a former
active unable to rewind: its whole data would be copied instead. So would a connection limit of that
database, or a default for all roles that keeps a session from starting or ends it.
"""

from typing import TYPE_CHECKING, Any

from openvcha.node.patroni import REPLICATION_USER, REWIND_USER, SUPERUSER

if TYPE_CHECKING:
    from psycopg import AsyncConnection

RESERVED_SINCE = 160000
LOGIN_TRIGGERS_SINCE = 170000
EVENT_TRIGGERS = "event_triggers"
REWIND_FUNCTIONS = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
    # PUBLIC may call these, until somebody revokes that.
    "pg_catalog.pg_current_wal_insert_lsn()",
    "pg_catalog.pg_is_in_recovery()",
    "pg_catalog.pg_tablespace_location(oid)",
    "pg_catalog.set_config(text, text, boolean)",
)
"""What pg_rewind calls; PostgreSQL's manual names those that not everybody may call."""
REWIND_DEFAULTS = (
    "exit_on_error",
    "idle_session_timeout",
    "local_preload_libraries",
    "session_preload_libraries",
)
"""Settings that pg_rewind does not set for itself, or that take effect before it can."""
STANDING = """
    select pg_is_in_recovery(), current_setting('server_version_num')::int,
           (select count(*) = 2 from pg_roles where rolname in ('replicator', 'rewind'))
"""
CONNECTS = """
    select exists (select from pg_database, aclexplode(datacl) as acl
                    where datname = current_database() and acl.privilege_type = 'CONNECT'
                      and acl.grantee = 'rewind'::regrole)
"""
"""Its own right: that of everybody may be taken."""
LIMITED = "select datconnlimit <> -1 from pg_database where datname = current_database()"
"""The limit does not apply to superusers, but their sessions count towards it."""
UNSET = """
    select name from unnest(%s::text[]) as name
     where not exists (select from pg_db_role_setting, unnest(setconfig) as setting
                        where setrole = 'rewind'::regrole
                          and setdatabase = (select oid from pg_database
                                              where datname = current_database())
                          and setting = name || '=' || current_setting(name))
"""
"""The role's defaults in this database, the scope that wins, that differ from our session's."""
CALLS = "select has_function_privilege('rewind', %s, 'execute')"
LOGS_IN = """
    select rolcanlogin and rolconnlimit = -1 and coalesce(rolvaliduntil, 'infinity') = 'infinity'
           and (rolreplication or rolname <> 'replicator')
      from pg_roles where rolname = %s
"""
RESERVED = "select pg_has_role('rewind', 'pg_use_reserved_connections', 'usage')"


async def tend(connection: "AsyncConnection[Any]") -> tuple[str, ...]:
    """Restore on a primary what our roles lack; return the statements. Raises psycopg.Error.

    Before the roles are made, and on a standby, there is nothing to do.
    """
    standby, version, made = await _row(connection, STANDING)
    if standby or not made:
        return ()
    lacking = await _lacking(connection, version)
    for statement in lacking:
        await connection.execute(statement.encode())
    return tuple(lacking)


async def _lacking(connection: "AsyncConnection[Any]", version: int) -> list[str]:
    found: list[str] = []
    if not (await _row(connection, CONNECTS))[0]:
        found.append(f"grant connect on database postgres to {REWIND_USER}")
    if (await _row(connection, LIMITED))[0]:
        found.append("alter database postgres connection limit -1")
    uncalled = [f for f in REWIND_FUNCTIONS if not (await _row(connection, CALLS, f))[0]]
    found += [f"grant execute on function {function} to {REWIND_USER}" for function in uncalled]
    own = ((SUPERUSER, ""), (REWIND_USER, ""), (REPLICATION_USER, " replication"))
    for role, more in own:
        if not (await _row(connection, LOGS_IN, role))[0]:
            limits = "connection limit -1 valid until 'infinity'"
            found.append(f"alter role {role} login{more} {limits}")
    if version >= RESERVED_SINCE and not (await _row(connection, RESERVED))[0]:
        found.append(f"grant pg_use_reserved_connections to {REWIND_USER}")
    return [*found, *await _defaults(connection, version)]


async def _defaults(connection: "AsyncConnection[Any]", version: int) -> list[str]:
    names = [*REWIND_DEFAULTS, *([EVENT_TRIGGERS] if version >= LOGIN_TRIGGERS_SINCE else [])]
    unset = await (await connection.execute(UNSET.encode(), [names])).fetchall()
    # `= ''` could store a list setting as one library without a name.
    role = f"alter role {REWIND_USER} in database postgres"
    return [f"{role} set {name} from current" for (name,) in unset]


async def _row(
    connection: "AsyncConnection[Any]", query: str, *arguments: object
) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode(), arguments or None)).fetchone()
    return tuple(row or ())

"""The cluster's own roles keep what they need, whatever users take from everybody.

``REVOKE CONNECT ON DATABASE postgres FROM PUBLIC`` is common advice, and would leave a former
active unable to rewind: its whole data would be copied instead.
"""

from typing import TYPE_CHECKING, Any

from openvcha.node.patroni import REPLICATION_USER, REWIND_USER

if TYPE_CHECKING:
    from psycopg import AsyncConnection

RESERVED_SINCE = 160000
REWIND_FUNCTIONS = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
)
"""What pg_rewind calls; PostgreSQL's manual names them."""
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
    uncalled = [f for f in REWIND_FUNCTIONS if not (await _row(connection, CALLS, f))[0]]
    found += [f"grant execute on function {function} to {REWIND_USER}" for function in uncalled]
    for role, more in ((REWIND_USER, ""), (REPLICATION_USER, " replication")):
        if not (await _row(connection, LOGS_IN, role))[0]:
            limits = "connection limit -1 valid until 'infinity'"
            found.append(f"alter role {role} login{more} {limits}")
    if version >= RESERVED_SINCE and not (await _row(connection, RESERVED))[0]:
        found.append(f"grant pg_use_reserved_connections to {REWIND_USER}")
    return found


async def _row(
    connection: "AsyncConnection[Any]", query: str, *arguments: object
) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode(), arguments or None)).fetchone()
    return tuple(row or ())

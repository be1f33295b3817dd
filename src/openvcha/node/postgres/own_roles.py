"""Repair of the cluster's own roles, whatever users change.

``REVOKE CONNECT ON DATABASE postgres FROM PUBLIC`` is common advice, and would prevent a former
active from rewinding: it would have to copy all data instead. So would a connection limit of that
database, or a default for all roles that prevents or ends sessions. And a user who changes the
password or the expiry of the role ``postgres`` locks the cluster out of its database.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from psycopg import Error, sql

from openvcha.api.secret import Secret
from openvcha.node.identity import Secrets
from openvcha.node.postgres.own_names import OWN_ROLES, REPLICATION_USER, REWIND_USER, SUPERUSER
from openvcha.node.postgres.scram import accepts

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
    # PUBLIC may call these, unless a user revokes that.
    "pg_catalog.pg_current_wal_insert_lsn()",
    "pg_catalog.pg_is_in_recovery()",
    "pg_catalog.pg_tablespace_location(oid)",
    "pg_catalog.set_config(text, text, boolean)",
)
"""Functions that pg_rewind calls; PostgreSQL's manual names those that PUBLIC may not call."""
REWIND_DEFAULTS = (
    "client_encoding",
    "exit_on_error",
    "idle_session_timeout",
    "local_preload_libraries",
    "session_preload_libraries",
)
"""Settings that pg_rewind does not set itself, or that take effect before it can."""
STANDING = """
    select pg_is_in_recovery(), current_setting('server_version_num')::int,
           current_database() = 'postgres',
           array(select rolname::text from pg_roles where rolname = any(%s))
"""
DATABASE = "select datallowconn, datconnlimit <> -1 from pg_database where datname = 'postgres'"
"""The limit does not apply to superusers, but their sessions count towards it."""
CONNECTS = """
    select exists (select from pg_database, aclexplode(datacl) as acl
                    where datname = 'postgres' and acl.privilege_type = 'CONNECT'
                      and acl.grantee = 'rewind'::regrole)
"""
"""The role's own right: that of PUBLIC may be revoked."""
UNSET = """
    select name from unnest(%s::text[]) as name
     where not exists (select from pg_db_role_setting, unnest(setconfig) as setting
                        where setrole = 'rewind'::regrole
                          and setdatabase = (select oid from pg_database
                                              where datname = 'postgres')
                          and setting = name || '=' || current_setting(name))
"""
"""The role's defaults in this database, the strongest scope, that differ from our session's."""
UNCALLED = """
    select name from unnest(%s::text[]) with ordinality as wanted (name, place)
     where not has_function_privilege('rewind', name, 'execute') order by place
"""
ATTRIBUTES: Mapping[str, str] = MappingProxyType(
    {SUPERUSER: "superuser login", REPLICATION_USER: "login replication", REWIND_USER: "login"}
)
UNLIMITED = "connection limit -1 valid until 'infinity'"
LOGINS = """
    select rolname::text,
           rolcanlogin and rolconnlimit = -1 and coalesce(rolvaliduntil, 'infinity') = 'infinity'
           and (rolreplication or rolname <> 'replicator') and (rolsuper or rolname <> 'postgres')
      from pg_roles where rolname = any(%s)
"""
VERIFIERS = "select rolname::text, rolpassword from pg_authid where rolname = any(%s)"
RESERVED = "select pg_has_role('rewind', 'pg_use_reserved_connections', 'usage')"


@dataclass(frozen=True)
class Repair:
    """A statement that repairs something; ``shown`` contains no password verifier."""

    shown: str
    statement: sql.Composed

    @classmethod
    def of(cls, statement: str) -> "Repair":
        """Return a repair whose statement contains no secret."""
        return cls(statement, sql.SQL(statement).format())


@dataclass(frozen=True)
class RepairResult:
    """What was repaired, and what could not be, with the reasons."""

    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


async def repair_roles(
    connection: "AsyncConnection[Any]", known: Secrets | None = None
) -> RepairResult:
    """Repair our roles on a primary. Raises psycopg.Error if they cannot be read.

    With ``known``, missing roles and passwords are restored too. Without it, do nothing while a
    role is missing. On a standby, never do anything.
    """
    standby, version, at_home, made = await _row(connection, STANDING, list(OWN_ROLES))
    if standby or (known is None and set(made) != set(OWN_ROLES)):
        return RepairResult()
    tended = await _restore(connection, await _logins(connection, made, known))
    if tended.failed:
        return tended
    more = await _restore(connection, await _rights(connection, version, at_home=at_home))
    return RepairResult((*tended.done, *more.done), more.failed)


async def _restore(connection: "AsyncConnection[Any]", repairs: Iterable[Repair]) -> RepairResult:
    done: list[str] = []
    failed: list[str] = []
    for repair in repairs:
        try:
            await connection.execute(repair.statement)
        except Error as error:
            failed.append(f"{repair.shown}: {error}")
        else:
            done.append(repair.shown)
    return RepairResult(tuple(done), tuple(failed))


def passwords(known: Secrets) -> Mapping[str, Secret]:
    """Return the passwords of the cluster's roles."""
    return {
        SUPERUSER: known.superuser,
        REPLICATION_USER: known.replication,
        REWIND_USER: known.rewind,
    }


async def _logins(
    connection: "AsyncConnection[Any]", made: list[str], known: Secrets | None
) -> list[Repair]:
    """Return the repairs that let the roles log in again, and into the database ``postgres``."""
    found: list[Repair] = []
    wanted = passwords(known) if known else {}
    logs_in = dict(await _rows(connection, LOGINS, list(OWN_ROLES)))
    verifiers = await _rows(connection, VERIFIERS, list(wanted)) if wanted else []
    stored = dict(verifiers)
    for role, attributes in ATTRIBUTES.items():
        if role not in made:
            found.append(Repair.of(f"create role {role} {attributes}"))
        elif not logs_in.get(role):
            found.append(Repair.of(f"alter role {role} {attributes} {UNLIMITED}"))
        if (password := wanted.get(role)) and not accepts(stored.get(role), password):
            change = change_password(connection, role, password)
            found.append(Repair(f"alter role {role} password ...", change))
    database = await _row(connection, DATABASE)
    if not database:
        found.append(Repair.of("create database postgres template template0"))
    elif not database[0]:
        found.append(Repair.of("alter database postgres allow_connections true"))
    if database and database[1]:
        found.append(Repair.of("alter database postgres connection limit -1"))
    return found


def change_password(
    connection: "AsyncConnection[Any]", role: str, password: Secret
) -> sql.Composed:
    """Return a statement that contains only the password's verifier, not the password."""
    verifier = connection.pgconn.encrypt_password(
        password.reveal().encode(), role.encode(), b"scram-sha-256"
    )
    statement = sql.SQL("alter role {} password {}")
    return statement.format(sql.Identifier(role), sql.Literal(verifier.decode()))


async def _rights(
    connection: "AsyncConnection[Any]", version: int, *, at_home: bool
) -> list[Repair]:
    """Return the repairs of the rewind role; rights on functions belong to one database."""
    found: list[str] = []
    if not (await _row(connection, CONNECTS))[0]:
        found.append(f"grant connect on database postgres to {REWIND_USER}")
    if at_home:
        uncalled = await _rows(connection, UNCALLED, list(REWIND_FUNCTIONS))
        found += [f"grant execute on function {name} to {REWIND_USER}" for (name,) in uncalled]
    if version >= RESERVED_SINCE and not (await _row(connection, RESERVED))[0]:
        found.append(f"grant pg_use_reserved_connections to {REWIND_USER}")
    return [Repair.of(each) for each in (*found, *await _defaults(connection, version))]


async def _defaults(connection: "AsyncConnection[Any]", version: int) -> list[str]:
    names = [*REWIND_DEFAULTS, *([EVENT_TRIGGERS] if version >= LOGIN_TRIGGERS_SINCE else [])]
    unset = await _rows(connection, UNSET, names)
    # `= ''` could store a list setting as one library with an empty name.
    role = f"alter role {REWIND_USER} in database postgres"
    return [f"{role} set {name} from current" for (name,) in unset]


async def _row(
    connection: "AsyncConnection[Any]", query: str, *arguments: object
) -> tuple[Any, ...]:
    rows = await _rows(connection, query, *arguments)
    return tuple(rows[0]) if rows else ()


async def _rows(
    connection: "AsyncConnection[Any]", query: str, *arguments: object
) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode(), arguments or None)).fetchall()

"""The current primary, and the size of its data."""

import dataclasses
from urllib.parse import urlsplit

from openvcha.node.engines import MIN_POSTGRES, Postgres
from openvcha.node.identity import Secrets
from openvcha.node.layout import Layout
from openvcha.node.postgres.own_names import SUPERUSER
from openvcha.node.postgres.own_sessions import APPLICATION_NAME, superuser_options
from openvcha.node.postgres.tls import NO_TLS, session_tls
from openvcha.store import keys
from openvcha.store.errors import StoreError
from openvcha.store.interface import Store
from openvcha.store.patroni.state import Unreadable, read_leader, read_member

CONNECT_SECONDS = 5
FACTS = """
    select sum(pg_database_size(oid))::bigint,
           current_setting('server_version_num')::int / 10000,
           pg_is_in_recovery()
      from pg_database
"""


class BaseBackupFailed(Exception):  # noqa: N818 - the outcome of a step, not a defect
    """A base backup failed; `temporary` says whether a retry may help."""

    def __init__(self, reason: str, *, temporary: bool) -> None:
        super().__init__(reason)
        self.temporary = temporary


@dataclasses.dataclass(frozen=True)
class Leader:
    """The primary: its member name, its address, the size of its data and its major version."""

    member: str
    host: str
    port: int
    data_bytes: int
    major: int


async def find_leader(store: Store, layout: Layout, secrets: Secrets, postgres: Postgres) -> Leader:
    """Find the primary through Patroni's keys and query it. Raises BaseBackupFailed (temporary)."""
    try:
        member, host, port = await _place(store)
        size, major = await _facts(host, port, layout, secrets, postgres)
    except (StoreError, ValueError) as error:
        raise BaseBackupFailed(f"cannot query the leader: {error}", temporary=True) from error
    return Leader(member, host, port, size, major)


def parse_member_address(member_record: bytes) -> tuple[str, int]:
    """Return host and port of PostgreSQL from Patroni's record of a member.

    Raises ValueError for an invalid record.
    """
    member = read_member(member_record)
    if isinstance(member, Unreadable) or not member.conn_url:
        raise ValueError("the record of the leader cannot be read")
    parts = urlsplit(member.conn_url)
    return parts.hostname or "", parts.port or 5432


async def _place(store: Store) -> tuple[str, str, int]:
    leader = await store.get(keys.PATRONI_LEADER)
    if leader is None:
        raise BaseBackupFailed("there is no leader to copy from", temporary=True)
    member = read_leader(leader.value)
    record = await store.get(keys.patroni_member(member))
    if record is None:
        raise BaseBackupFailed(f"the leader {member} has not reported its address", temporary=True)
    return (member, *parse_member_address(record.value))


async def _facts(
    host: str, port: int, layout: Layout, secrets: Secrets, postgres: Postgres
) -> tuple[int, int]:
    # Imported here: it would slow down every start of a node, and few nodes take a base backup.
    from psycopg import AsyncConnection, Error  # noqa: PLC0415

    place = superuser_conninfo(host, port, layout, secrets, postgres, major=MIN_POSTGRES)
    try:
        connection = await AsyncConnection.connect(place)
        async with connection:
            row = await (await connection.execute(FACTS)).fetchone()
    except Error as error:
        raise BaseBackupFailed(f"cannot query the leader: {error}", temporary=True) from error
    if row is None:
        raise BaseBackupFailed("the leader reports no size", temporary=True)
    if row[2]:
        raise BaseBackupFailed("the leader does not accept writes yet", temporary=True)
    return int(row[0]), int(row[1])


def superuser_conninfo(
    host: str,
    port: int,
    layout: Layout,
    secrets: Secrets,
    postgres: Postgres,
    *,
    major: int | None = None,
) -> str:
    """Return a connection string of the superuser, with the password.

    ``major`` is the server's version, if it may differ from the node's own.
    """
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - as above

    return make_conninfo(
        host=host,
        port=port,
        user=SUPERUSER,
        dbname="postgres",
        password=secrets.superuser.reveal(),
        connect_timeout=CONNECT_SECONDS,
        application_name=APPLICATION_NAME,
        client_encoding="UTF8",
        options=superuser_options(major or postgres.version[0]),
        **(session_tls(layout, postgres) or NO_TLS),
    )

"""Missing files: those that a node's databases need from PostgreSQL's directories.

Extensions and C functions belong to a database, so each database is queried.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

from openvcha.node.postgres.diagnosis.user_settings import LIBRARIES, MAX_ENTRIES, missing
from openvcha.node.postgres.log import sanitize

if TYPE_CHECKING:
    from psycopg import AsyncConnection

DATABASES = """
    select datname from pg_database where datallowconn and datconnlimit <> -2 order by 1
"""
"""A limit of -2 marks a half-dropped database, which accepts no connections."""
EXTENSIONS = """
    select extname from pg_extension
     where extname not in (select name from pg_available_extensions) order by 1
"""
USED = "select distinct probin from pg_proc where probin is not null order by 1"


@dataclass(frozen=True)
class MissingFile:
    """An extension without its control file, or a library of functions without its file."""

    database: str
    name: str
    extension: bool


async def find_missing_files(
    connection: "AsyncConnection[Any]", connect: Callable[[str], Awaitable["AsyncConnection[Any]"]]
) -> tuple[MissingFile, ...]:
    """Query every database, each over a connection from ``connect``. Raises psycopg.Error."""
    (folder,) = await _names(connection, LIBRARIES)
    found: list[MissingFile] = []
    for database in await _names(connection, DATABASES):
        async with await connect(database) as own:
            extensions = await _names(own, EXTENSIONS)
            libraries = missing(await _names(own, USED), Path(folder))
        for names, extension in ((extensions, True), (libraries, False)):
            found += [MissingFile(sanitize(database), sanitize(name), extension) for name in names]
    return tuple(found[:MAX_ENTRIES])


async def _names(connection: "AsyncConnection[Any]", query: LiteralString) -> list[str]:
    return [name for (name,) in await (await connection.execute(query)).fetchall()]

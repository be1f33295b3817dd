"""The creation of the application's role and database; Patroni runs this once in a cluster's life.

Arguments: the node's directory, and a connection string of the superuser without the password,
which libpq reads from the password file that Patroni names.
"""

import sys
from pathlib import Path

import psycopg
from psycopg import sql

from openvcha.node.identity import load_secrets
from openvcha.node.postgres.own_names import APPLICATION_DATABASE, APPLICATION_USER
from openvcha.node.postgres.own_sessions import superuser_options


def prepare(directory: Path, connection_string: str) -> None:
    """Create the role and its database unless they exist. Raises psycopg.Error, SystemExit."""
    password = load_secrets(directory).application
    if password is None:
        raise SystemExit(f"{directory} has no password for the role {APPLICATION_USER}")
    role = sql.Identifier(APPLICATION_USER)
    database = sql.Identifier(APPLICATION_DATABASE)
    options = superuser_options()
    with psycopg.connect(connection_string, autocommit=True, options=options) as connection:
        if not _exists(connection, "select from pg_roles where rolname = %s", APPLICATION_USER):
            statement = sql.SQL("create role {} login password {}")
            connection.execute(statement.format(role, sql.Literal(password.reveal())))
        database_query = "select from pg_database where datname = %s"
        if not _exists(connection, database_query, APPLICATION_DATABASE):
            statement = sql.SQL("create database {} owner {}")
            connection.execute(statement.format(database, role))


def _exists(connection: psycopg.Connection, query: str, name: str) -> bool:
    return connection.execute(query.encode(), (name,)).fetchone() is not None


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), sys.argv[2])

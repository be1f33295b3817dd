"""A PostgreSQL that somebody has run without openvcha, shut down: to be adopted."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openvcha.api.secret import Secret
from openvcha.cli.node.init_steps import account_for, acting
from openvcha.node.engines import Postgres, find_postgres
from openvcha.node.first_node.adoption.programs import Programs
from openvcha.node.first_node.adoption.roles import verifier
from openvcha.node.first_node.checks import Account
from openvcha.node.settings.table import defaults

ROWS = 1000
PASSWORD = Secret("of-the-old-superuser")


@dataclass(frozen=True)
class OldPostgres:
    """Its data directory, the account that owns it and its programs."""

    data: Path
    account: Account
    postgres: Postgres

    @property
    def programs(self) -> Programs:
        """Return its programs."""
        return Programs(self.postgres.bin_dir, self.account.prefix)

    def run(self, *statements: str) -> list[str]:
        """Run statements while no server runs; return the values that they print."""
        with acting(self.account):
            return self.programs.session(self.data, statements, "postgres")

    def call(self, *argv: str) -> None:
        """Run one of its programs."""
        program = str(self.postgres.bin_dir / argv[0])
        with acting(self.account):
            subprocess.run(
                [*self.account.prefix, program, *argv[1:]],
                check=True,
                capture_output=True,
                timeout=120,
                cwd="/",
            )


def old_postgres(data: Path, superuser: str = "admin", options: Sequence[str] = ()) -> OldPostgres:
    """Make a data directory with ROWS rows in the table `kept`, and a superuser of its own."""
    postgres = find_postgres()
    old = OldPostgres(data, account_for(defaults()), postgres)
    old.call("initdb", "-D", str(data), "-U", superuser, "-A", "trust", "-N", *options)
    old.run(
        f"create table kept as select number from generate_series(1, {ROWS}) number",
        f"alter role {superuser} password '{verifier(PASSWORD)}'",
    )
    return old

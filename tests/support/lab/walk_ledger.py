"""Who wrote what, and what became of it: a writer whose rows can be counted while it writes."""

import psycopg
from tests.support.lab.writer import Writer


class Ledger(Writer):
    """A writer that tells which acknowledged rows are missing, without an end to its writing."""

    def begin(self) -> None:
        """Make the tables and begin to write."""
        with psycopg.connect(self._dsn) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS probed (at timestamptz)")
        self.__enter__()

    def lost(self) -> set[int] | None:
        """Give acknowledged rows that are not there; None when nobody can be asked now."""
        acknowledged = set(self.acknowledged)  # before the look: what comes later is not missed
        try:
            with psycopg.connect(self._dsn) as connection:
                there = {row[0] for row in connection.execute("SELECT id FROM written")}
        except psycopg.Error:
            return None
        return acknowledged - there

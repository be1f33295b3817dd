"""A writer whose rows can be counted while it writes, to tell what became of each."""

import psycopg
from tests.support.lab.writer import Writer


class Ledger(Writer):
    """A writer that reports missing acknowledged rows without having to stop writing."""

    def begin(self) -> None:
        """Create the tables and begin to write."""
        self._execute("CREATE TABLE IF NOT EXISTS probed (at timestamptz)")
        self.__enter__()

    def lost(self) -> set[int] | None:
        """Return the acknowledged rows that are missing; None when no node can be asked now."""
        acknowledged = set(self.acknowledged)  # before the query: later rows are not missing
        try:
            with psycopg.connect(self._dsn) as connection:
                there = {row[0] for row in connection.execute("SELECT id FROM written")}
        except psycopg.Error:
            return None
        return acknowledged - there

    def lost_at_last(self) -> set[int]:
        """Return them; wait until a node can be asked."""
        acknowledged = set(self.acknowledged)
        return acknowledged - self.rows()

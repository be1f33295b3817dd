"""Reading a standby's replay position once; a paused replay is resumed."""

from pathlib import Path
from typing import Any, Self

import pytest

from openvcha.node.layout import Layout
from openvcha.node.postgres.diagnosis.replay import HOLDERS, REPLAYED
from openvcha.node.postgres.superuser import PostgresUnreachable, Superuser

RESUME = "select pg_wal_replay_resume()"


class Standby:
    """A connection to a standby: its queries, and the position it reports."""

    def __init__(self, row: tuple[Any, ...] | None) -> None:
        self.rows = {REPLAYED: row}
        self.asked: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def execute(self, statement: str) -> Self:
        self.asked.append(statement)
        return self

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self.rows[self.asked[-1]]

    async def fetchall(self) -> list[tuple[Any, ...]]:
        assert self.asked[-1] == HOLDERS
        return [(7, "app", "report", None)]

    @classmethod
    def at(cls, patch: pytest.MonkeyPatch, row: tuple[Any, ...] | None) -> Self:
        """Return a connection that a superuser opens to any host."""
        standby = cls(row)

        async def connect(*_: object) -> Self:
            return standby

        patch.setattr(Superuser, "connect", connect)
        return standby


@pytest.mark.parametrize("paused", [True, False])
async def test_a_replay_that_was_paused_is_resumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paused: bool
) -> None:
    """And only a paused one: a takeover would wait for it for ever."""
    standby = Standby.at(monkeypatch, (4096, True, paused, "0"))
    seen = await Superuser(Layout(tmp_path), 5432).replay("127.0.0.1")
    assert standby.asked == [REPLAYED, *([RESUME] if paused else []), HOLDERS]
    assert (seen.position, seen.paused) == (4096, paused)
    assert [holder.pid for holder in seen.holders] == [7]


async def test_a_standby_that_does_not_tell_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Then nothing counts as replayed."""
    Standby.at(monkeypatch, None)
    with pytest.raises(PostgresUnreachable):
        await Superuser(Layout(tmp_path), 5432).replay("127.0.0.1")

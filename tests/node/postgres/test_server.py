"""The node's own PostgreSQL: the kind of its data, and stopping it."""

from pathlib import Path

import pytest

from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout
from openvcha.node.postgres.server import STANDBY_SIGNAL, LocalPostgres


def local(root: Path, exit_code: int) -> LocalPostgres:
    """Return a node whose pg_ctl records its arguments, and exits as given."""
    root.joinpath("pgdata").mkdir()
    program = root / "pg_ctl"
    program.write_text(f'#!/bin/sh\necho "$@" > {root}/called\necho refused\nexit {exit_code}\n')
    program.chmod(0o700)
    return LocalPostgres(Layout(root), Postgres(root, (15, 1), True, "system"))


def test_data_say_whether_they_are_a_standby_s(tmp_path: Path) -> None:
    """By PostgreSQL's own file."""
    postgres = local(tmp_path, 0)
    assert not postgres.standby
    (tmp_path / "pgdata" / STANDBY_SIGNAL).touch()
    assert postgres.standby


@pytest.mark.parametrize(("exit_code", "stopped"), [(0, True), (1, False)])
async def test_it_is_stopped_fast_and_the_end_is_told(
    tmp_path: Path, exit_code: int, stopped: bool
) -> None:
    """Sessions end at once, the data stay clean; a failure is no success."""
    assert await local(tmp_path, exit_code).stop() is stopped
    called = (tmp_path / "called").read_text()
    assert called.startswith("stop ")
    assert "--mode=fast" in called
    assert f"--pgdata={tmp_path}/pgdata" in called

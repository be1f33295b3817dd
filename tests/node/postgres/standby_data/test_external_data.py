"""What PostgreSQL stores outside its node's directory is found, and nothing else."""

from pathlib import Path

import pytest

from openvcha.node.layout import Layout
from openvcha.node.postgres.standby_data.external_data import find_external_data


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "node")
    for name in ("pg_wal", "pg_tblspc"):
        (layout.pgdata / name).mkdir(parents=True)
    return layout


def test_nothing_is_elsewhere_as_a_rule(layout: Layout) -> None:
    """Even if the path to the node's directory is a link, and before there are data."""
    assert find_external_data(layout) == ()
    link = layout.root.parent / "link"
    link.symlink_to(layout.root)
    assert find_external_data(Layout(link)) == ()
    assert find_external_data(Layout(layout.root.parent / "new")) == ()


def test_a_tablespace_on_another_disk_is_elsewhere(layout: Layout, tmp_path: Path) -> None:
    """One inside the node's directory is not, whatever its link looks like."""
    near, far = layout.root / "near", tmp_path / "far"
    for place, number in ((near, "16384"), (far, "16385")):
        place.mkdir()
        (layout.pgdata / "pg_tblspc" / number).symlink_to(place)
    assert find_external_data(layout) == (far.resolve(),)


def test_data_and_log_on_another_disk_are_elsewhere(layout: Layout, tmp_path: Path) -> None:
    """Each of them separately."""
    log, data = tmp_path / "log", tmp_path / "data"
    log.mkdir()
    (layout.pgdata / "pg_wal").rmdir()
    (layout.pgdata / "pg_wal").symlink_to(log)
    assert find_external_data(layout) == (log.resolve(),)
    layout.pgdata.rename(data)
    layout.pgdata.symlink_to(data)
    assert find_external_data(layout) == (data.resolve(), log.resolve())

"""What a node needs to go on alone."""

import datetime as dt
from pathlib import Path

import msgspec
import pytest
from tests.support.simulated.kept_cluster import IDENTITY

from openvcha.node.layout import Layout
from openvcha.node.postgres.standby_data.old_data import set_data_aside
from openvcha.node.recovery.own_data import missing_data, missing_store

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.make_directories()
    return layout


def test_data_in_place_or_set_aside_are_data(layout: Layout) -> None:
    """An empty directory does not count."""
    assert "has no data" in str(missing_data(IDENTITY, layout))
    layout.pgdata.mkdir()
    assert "has no data" in str(missing_data(IDENTITY, layout))
    (layout.pgdata / "PG_VERSION").write_text("15")
    assert missing_data(IDENTITY, layout) is None
    set_data_aside(layout, NOW)
    assert missing_data(IDENTITY, layout) is None


def test_a_witness_has_none(layout: Layout) -> None:
    """Whatever its directory contains."""
    layout.pgdata.mkdir()
    (layout.pgdata / "PG_VERSION").write_text("15")
    witness = msgspec.structs.replace(IDENTITY, kind="witness")
    assert "witness" in str(missing_data(witness, layout))


def test_a_store_is_what_a_member_has_written(layout: Layout) -> None:
    """An empty one would start a new cluster."""
    assert "there is no store" in str(missing_store(layout))
    (layout.etcd_data / "member").mkdir(parents=True)
    assert missing_store(layout) is None

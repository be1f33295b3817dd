"""Which data directories are taken over: everything that prevents it is said at once. Pure."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openvcha.node.first_node.adoption.checks import Target, check_adoption
from openvcha.node.first_node.adoption.data import Data, Slot
from openvcha.node.first_node.findings import Verdict

GOOD = Data(
    path=Path("/srv/old"),
    major=15,
    control={
        "Database system identifier": "7301234567890123456",
        "Database cluster state": "shut down",
        "Data page checksum version": "1",
    },
    owner=5432,
    mode=0o700,
    settings={"wal_level": "replica", "fsync": "on", "recovery_min_apply_delay": "0"},
    own_settings={},
    has_settings_file=True,
    signs=(),
    links=(),
    foreign=(),
    slots=(),
    prepared=0,
    libraries=(),
    size=100 << 20,
    device=1,
)
TARGET = Target(
    uid=5432,
    account="postgres",
    device=1,
    free_bytes=10 << 30,
    copy=False,
    in_place=False,
    may_move=True,
    installed=("auto_explain",),
)


def texts(verdict: Verdict, data: Data = GOOD, target: Target = TARGET) -> list[str]:
    return [each.text for each in check_adoption(data, target) if each.verdict is verdict]


def test_good_data_are_taken_and_every_change_is_said() -> None:
    """Whose roles, what becomes of pg_hba.conf and of postgresql.conf."""
    assert texts(Verdict.REFUSED) == []
    (taken,) = texts(Verdict.OK)
    assert "system 7301234567890123456" in taken
    notes = "\n".join(texts(Verdict.NOTE))
    for word in ("postgres, replicator and rewind", "pg_hba.conf is replaced", "adopted/"):
        assert word in notes


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "running": ({"signs": ("postmaster.pid",)}, "a server may be running"),
    "crashed": (
        {"control": {"Database cluster state": "in production"}},
        "was not shut down cleanly",
    ),
    "standby": (
        {"control": {"Database cluster state": "shut down in recovery"}},
        "promote it if it is a standby",
    ),
    "standby.signal": ({"signs": ("standby.signal",)}, "standby.signal: these data"),
    "backup": ({"signs": ("backup_label",)}, "to a backup"),
    "prepared": ({"prepared": 2}, "2 prepared transactions"),
    "tablespace": ({"links": ("pg_tblspc/16384",)}, "tablespaces are outside"),
    "pg_wal": ({"links": ("pg_wal",)}, "pg_wal is a symbolic link"),
    "link": (
        {"links": ("postgresql.conf",)},
        "does not follow symbolic links: replace postgresql.conf",
    ),
    "owner": ({"owner": 1000}, "belongs to the user 1000, but the node runs as postgres"),
    "foreign": ({"foreign": ("base/1/2",)}, "another account owns base/1/2"),
    "mode": ({"mode": 0o755}, "chmod 0700"),
    "no file": ({"has_settings_file": False, "settings": {}}, "--settings-file"),
    "vital": ({"own_settings": {"wal_level": "logical"}}, "postgresql.auto.conf sets wal_level"),
    "fsync": ({"settings": {"fsync": "off"}}, "fsync is off"),
    "recovery": ({"settings": {"restore_command": "cp"}}, "restore_command: every standby"),
    "delay": ({"settings": {"recovery_min_apply_delay": "5min"}}, "recovery_min_apply_delay"),
    "logical": ({"slots": (Slot("sub", logical=True),)}, "logical replication slots (sub)"),
    "device": ({"device": 2}, "on a different file system"),
}


@pytest.mark.parametrize(("changed", "said"), REFUSED.values(), ids=REFUSED)
def test_what_prevents_an_adoption_is_said(changed: dict[str, Any], said: str) -> None:
    """And nothing is promised then."""
    data = replace(GOOD, **changed)
    assert any(said in text for text in texts(Verdict.REFUSED, data)), texts(Verdict.REFUSED, data)
    assert texts(Verdict.OK, data) == []


def test_all_reasons_are_said_at_once() -> None:
    """A person repairs them together."""
    data = replace(GOOD, owner=0, mode=0o777, prepared=1, device=3)
    assert len(texts(Verdict.REFUSED, data)) == 4


def test_a_copy_needs_space_and_no_rename() -> None:
    """On any file system, also out of a folder that the account cannot change."""
    copy = replace(TARGET, copy=True, may_move=False)
    assert texts(Verdict.REFUSED, replace(GOOD, device=2), copy) == []
    (full,) = texts(Verdict.REFUSED, GOOD, replace(copy, free_bytes=100 << 20))
    assert "a copy needs 356 MiB" in full
    (fixed,) = texts(Verdict.REFUSED, GOOD, replace(TARGET, may_move=False))
    assert "postgres cannot rename" in fixed


def test_data_in_place_are_not_moved() -> None:
    """Then neither space nor rights are needed."""
    there = replace(TARGET, in_place=True, may_move=False, free_bytes=0)
    assert texts(Verdict.REFUSED, replace(GOOD, device=2), there) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"control": GOOD.control | {"Data page checksum version": "0"}}, "no checksums"),
        ({"settings": {"max_connections": "500"}}, "the cluster sets max_connections 500 -> 200"),
        ({"settings": {"wal_level": "logical"}}, "wal_level logical -> replica"),
        ({"slots": (Slot("backup", logical=False),)}, "replication slots stay (backup)"),
        ({"libraries": ("pg_cron",)}, "pg_cron, which this PostgreSQL lacks"),
        ({"libraries": ("auto_explain",)}, "(auto_explain) on both nodes"),
        ({"settings": {"archive_mode": "on"}}, "archive_mode and archive_command stay"),
        ({"own_settings": {"log_timezone": "CET"}}, "ALTER SYSTEM RESET for log_time"),
    ],
)
def test_what_changes_is_no_refusal(changed: dict[str, Any], said: str) -> None:
    """It is said, and the data are taken."""
    data = replace(GOOD, **changed)
    assert any(said in text for text in texts(Verdict.NOTE, data)), texts(Verdict.NOTE, data)
    assert texts(Verdict.REFUSED, data) == []


def test_a_setting_that_is_the_clusters_own_value_is_no_obstacle() -> None:
    """ALTER SYSTEM SET wal_level = replica changes nothing."""
    assert texts(Verdict.REFUSED, replace(GOOD, own_settings={"wal_level": "replica"})) == []

"""Patroni drops only slots that it has created itself, whatever the names of others are."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from openvcha.node.layout import Layout
from openvcha.node.patroni.patches.slots import OwnSlots, install
from openvcha.node.postgres.member_slots import MemberSlots, MemberSlotsFile

NOW, GONE = "vcha_2_a1b2c3", "vcha_2_d4e5f6"
USERS = ("barman", "backup_202510", "sub_decade", GONE.replace("d", "e"))
PHYSICAL = {"type": "physical", "wal_status": "reserved"}
LOGICAL = {"type": "logical", "wal_status": "reserved"}
PATCHED = ("ignore_replication_slot", "_ensure_physical_slots", "_drop_incorrect_slots")


class Postgres:
    """A SIMULATED server with slots; Patroni's real code asks it."""

    major_version = 150000
    can_advance_slots = False
    mpp_handler = SimpleNamespace(ignore_replication_slot=lambda _: False)

    def __init__(self) -> None:
        self.slots: dict[str, dict[str, Any]] = {}
        self.recorded_first: list[bool] = []
        self.file = MemberSlotsFile(Path())

    def query(self, sql: str, *values: Any, **_: Any) -> list[tuple[Any, ...]]:
        if "pg_create_physical_replication_slot" in sql:
            self.recorded_first.append(values[0] in self.file.read().made)
            self.slots[values[0]] = dict(PHYSICAL)
            return []
        assert "pg_drop_replication_slot" in sql
        return [(False, self.slots.pop(values[0], None) is not None)]


class Scene:
    """One node's Patroni and its server; ``restart`` begins another Patroni."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._handler = import_module("patroni.postgresql.slots").SlotsHandler
        for name in PATCHED:
            monkeypatch.setattr(self._handler, name, getattr(self._handler, name))
        self._original = {name: getattr(self._handler, name) for name in PATCHED}
        monkeypatch.setattr("sys.argv", ["patroni", str(directory / "patroni.yml")])
        self.postgres = Postgres()
        self.file = self.postgres.file = MemberSlotsFile(Layout(directory).member_slots)
        self.restart()

    def restart(self) -> None:
        for name, found in self._original.items():
            setattr(self._handler, name, found)
        install()

    def sync(self, *members: str) -> None:
        """Do what Patroni does in each loop, for slots of these members."""
        handler = self._handler.__new__(self._handler)
        handler._postgresql = self.postgres
        handler._schedule_load_slots = False
        handler._replication_slots = dict(self.postgres.slots)
        known = [SimpleNamespace(name=name.replace("_", "-")) for name in members]
        cluster = SimpleNamespace(config=None, members=known)
        wanted = {name: dict(PHYSICAL) for name in members}
        handler._drop_incorrect_slots(cluster, wanted)
        handler._ensure_physical_slots(wanted, False)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_the_slot_of_a_member_that_left_is_dropped_and_recorded(scene: Scene) -> None:
    """Even if another Patroni created it; it was recorded before it existed."""
    scene.sync(GONE)
    assert scene.postgres.recorded_first == [True]
    scene.restart()
    scene.sync(NOW)
    assert set(scene.postgres.slots) == {NOW}
    assert scene.file.read() == MemberSlots(made=(NOW,), dropped=(GONE,))


@pytest.mark.parametrize("kind", [PHYSICAL, LOGICAL])
def test_the_slots_of_users_are_kept_whatever_their_names(
    scene: Scene, kind: dict[str, Any]
) -> None:
    """Also those that end as the slots of members do."""
    scene.sync(GONE)
    scene.postgres.slots |= {name: dict(kind) for name in USERS}
    scene.sync(NOW)
    assert set(scene.postgres.slots) == {NOW, *USERS}
    assert scene.file.read().dropped == (GONE,)


def test_a_logical_slot_is_never_patroni_s(scene: Scene) -> None:
    """Not even with a name that a member's slot had."""
    scene.sync(GONE)
    scene.postgres.slots[GONE] = dict(LOGICAL)
    scene.sync(NOW)
    assert GONE in scene.postgres.slots


def test_without_a_readable_record_only_members_slots_are_patroni_s(scene: Scene) -> None:
    """The slots of former members stay, and count as users' slots."""
    scene.sync(GONE, NOW)
    scene.file.path.write_bytes(b"{")
    scene.restart()
    scene.sync(NOW)
    assert set(scene.postgres.slots) == {GONE, NOW}
    own = OwnSlots(scene.file, lambda name: name.replace("-", "_"))
    handler = SimpleNamespace(_replication_slots={NOW: PHYSICAL})
    members = SimpleNamespace(members=[SimpleNamespace(name="vcha-2-a1b2c3")])
    assert not own.ignoring(lambda *_: False)(handler, members, NOW)
    assert own.ignoring(lambda *_: True)(handler, members, NOW), "Patroni's own rules still apply"


def test_a_full_disk_does_not_prevent_replication(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slot is created, and dropped when its member has left."""

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("openvcha.node.postgres.member_slots.write_durably", full)
    scene.sync(GONE)
    assert GONE in scene.postgres.slots
    scene.sync(NOW)
    assert set(scene.postgres.slots) == {NOW}

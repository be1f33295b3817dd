"""What is read of a data directory, and how it is brought. SIMULATED: no program runs."""

import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from openvcha.api.secret import Secret
from openvcha.node.first_node.adoption import data as module
from openvcha.node.first_node.adoption.data import NoDataDirectory, Slot, examine
from openvcha.node.first_node.adoption.programs import Done, ProgramFailed, Programs
from openvcha.node.first_node.adoption.roles import statements, verifier
from openvcha.node.first_node.adoption.take_over import KEPT, bring, take_settings
from openvcha.node.identity import Secrets
from openvcha.node.layout import Layout
from openvcha.node.postgres.scram import accepts

CONTROL = "Database system identifier:           73\nDatabase cluster state:   shut down\nx\n"
SECRETS = Secrets(
    superuser=Secret("s"),
    replication=Secret("r"),
    rewind=Secret("w"),
    patroni_rest=Secret("p"),
    records=Secret("k"),
)


class Answers:
    """PostgreSQL's programs: each call is remembered and answered."""

    def __init__(self, **answers: Done) -> None:
        self.answers = answers
        self.calls: list[list[str]] = []
        self.given: list[bytes] = []

    def __call__(
        self, argv: Sequence[str], environment: Mapping[str, str], given: bytes, seconds: float
    ) -> Done:
        assert seconds > 0
        assert not [name for name in environment if name.startswith("PG")]
        self.calls.append(list(argv))
        self.given.append(given)
        name = argv[argv.index("-C") + 1] if "-C" in argv else Path(argv[0]).name
        return self.answers.get(name, Done(0, "", ""))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Create the files of a data directory that the program itself reads."""
    made = tmp_path / "old"
    for name in ("global", "pg_replslot/backup", "pg_replslot/sub", "pg_twophase", "pg_tblspc"):
        (made / name).mkdir(parents=True)
    made.chmod(0o700)
    (made / "PG_VERSION").write_text("15\n")
    (made / "global" / "pg_control").write_bytes(b"x")
    (made / "postgresql.conf").write_text("port = 5433\n")
    return made


def programs(answers: Answers, settings_file: str = "") -> Programs:
    return Programs(Path("/bin-of-it"), ("prefix",), settings_file, start=answers)


def test_a_data_directory_is_described(old: Path) -> None:
    """Its control file, settings, slots, prepared transactions, links and libraries."""
    for name, database in (("backup", 0), ("sub", 16384)):
        state = struct.pack("=16x64sI", name.encode(), database) + b"more"
        (old / "pg_replslot" / name / "state").write_bytes(state)
    (old / "pg_twophase" / "0000000A").touch()
    (old / "pg_tblspc" / "1").symlink_to("/tmp")
    (old / "standby.signal").touch()
    auto = "# a comment\nwork_mem = '5MB'\nWAL_level='it''s' # no\n"
    (old / "postgresql.auto.conf").write_text(auto)
    answers = Answers(
        prefix=Done(0, CONTROL, ""),
        shared_preload_libraries=Done(0, 'a, "b" ,\n', ""),
        fsync=Done(1, "", 'FATAL:  unrecognized configuration parameter "fsync"\n'),
    )
    found = examine(old, programs(answers))
    assert (found.major, found.system, found.mode, found.prepared) == (15, "73", 0o700, 1)
    assert found.slots == (Slot("backup", logical=False), Slot("sub", logical=True))
    assert (found.signs, found.links, found.foreign) == (("standby.signal",), ("pg_tblspc/1",), ())
    assert found.libraries == ("a", "b")
    assert found.own_settings == {"work_mem": "5MB", "wal_level": "it's"}
    assert "fsync" not in found.settings
    assert found.has_settings_file
    assert found.size > 0
    assert all(call[0] == "prefix" for call in answers.calls)


def test_settings_may_be_elsewhere_or_missing(old: Path) -> None:
    """Without a file, no program is asked for settings; with another one, it is named."""
    (old / "postgresql.conf").unlink()
    answers = Answers()
    assert not examine(old, programs(answers)).has_settings_file
    assert not [call for call in answers.calls if "-C" in call]
    assert examine(old, programs(answers, settings_file="/etc/x.conf")).has_settings_file
    read = [call for call in answers.calls if "-C" in call]
    assert all("config_file=/etc/x.conf" in call for call in read)
    assert read


def test_what_is_no_data_directory_is_refused(old: Path, tmp_path: Path) -> None:
    """Also a link to one: it would be moved instead of the data."""
    (tmp_path / "link").symlink_to(old)
    for path, said in ((tmp_path, "is not a data"), (tmp_path / "link", "symbolic link")):
        with pytest.raises(NoDataDirectory, match=said):
            examine(path, programs(Answers()))
    (old / "PG_VERSION").write_text("x")
    with pytest.raises(NoDataDirectory, match="is not a data"):
        examine(old, programs(Answers()))


def test_a_program_that_fails_says_why(old: Path) -> None:
    """In one bounded line, without its context."""
    errors = f"LOG:  x\nFATAL:  could not {'y' * 5000}\nHINT:  z\n"
    with pytest.raises(ProgramFailed, match="postgres -C failed: FATAL:  could not y") as refused:
        examine(old, programs(Answers(wal_level=Done(1, "", errors))))
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("errors", ["", "ERROR:  no\n"])
def test_a_session_ends_with_its_first_error(old: Path, errors: str) -> None:
    """Whatever the exit code: PostgreSQL 14 ends a failed session with 0."""
    out = 'PostgreSQL stand-alone backend\n\t 1: rolname = "admin"\t(typeid = 25, x)\n\t----\n'
    unknown = Done(1, "", "unrecognized configuration parameter")
    answers = Answers(prefix=Done(0, out, errors), event_triggers=unknown)
    if errors:
        with pytest.raises(ProgramFailed, match="ERROR:  no"):
            programs(answers).session(old, ["a"], "template1")
        return
    assert programs(answers).session(old, ["a", "b"], "template1") == ["admin"]
    assert answers.given[-1] == b"a\nb\n"
    assert "exit_on_error=on" in answers.calls[-1]
    assert not [word for word in answers.calls[-1] if word.startswith("event_triggers")]


def test_the_roles_get_the_clusters_passwords() -> None:
    """As verifiers, whether they exist or not; the database is created only if it is missing."""
    new = statements(SECRETS, [], ["postgres"])
    assert [each for each in new if each.startswith("create")] == [
        "create role postgres",
        "create role replicator",
        "create role rewind",
    ]
    old = statements(SECRETS, ["postgres", "rewind"], [])
    assert [each for each in old if each.startswith("create")] == [
        "create role replicator",
        "create database postgres template template0",
    ]
    (superuser,) = [each for each in new if each.startswith("alter role postgres ")]
    assert superuser.startswith("alter role postgres superuser login connection limit -1")
    assert all("\n" not in each for each in new)
    assert accepts(superuser.split("'")[-2], SECRETS.superuser)


def test_a_verifier_is_of_one_password() -> None:
    """With a salt of its own."""
    made = verifier(Secret("right"))
    assert accepts(made, Secret("right"))
    assert not accepts(made, Secret("wrong"))
    assert made != verifier(Secret("right"))


@pytest.mark.parametrize("copy", [True, False])
def test_data_are_brought_once(old: Path, tmp_path: Path, copy: bool) -> None:
    """A second call, as after a crash, finds them there."""
    layout = Layout(tmp_path / "node")
    layout.root.mkdir()
    (layout.root / f"{KEPT}.copying").mkdir()  # half a copy of an earlier run
    (layout.root / f"{KEPT}.copying" / "left").touch()
    for _ in range(2):
        bring(old, layout, copy=copy)
        assert (layout.pgdata / "PG_VERSION").read_text() == "15\n"
        assert not (layout.pgdata / "left").exists()
    assert old.exists() == copy
    assert layout.pgdata.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("runs", [True, False])
def test_a_copy_of_a_server_s_data_is_not_taken(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    """One that runs after the copy, or that has run meanwhile: files may be of different times."""
    layout = Layout(tmp_path / "node")
    layout.root.mkdir()
    copytree = shutil.copytree

    def during(source: Path, target: Path, *subfolder: Any, **more: Any) -> Path:
        copied = copytree(source, target, *subfolder, **more)
        if subfolder:
            return copied
        if runs:
            (source / "postmaster.pid").touch()
        else:
            (source / "global" / "pg_control").write_bytes(b"stopped later")
        return copied

    monkeypatch.setattr(shutil, "copytree", during)
    with pytest.raises(NoDataDirectory, match="during the copy"):
        bring(old, layout, copy=True)
    assert list(layout.root.iterdir()) == []
    assert (old / "PG_VERSION").exists()


def test_nothing_is_brought_from_nowhere(tmp_path: Path) -> None:
    """If neither place has the data, somebody has moved them."""
    layout = Layout(tmp_path / "node")
    layout.root.mkdir()
    with pytest.raises(NoDataDirectory):
        bring(tmp_path / "old", layout, copy=False)
    layout.pgdata.mkdir()
    with pytest.raises(NoDataDirectory):
        bring(tmp_path / "old", layout, copy=False)


def test_data_whose_server_was_started_meanwhile_stay(old: Path, tmp_path: Path) -> None:
    """Between the examination and the move, a person or a unit may have started it."""
    layout = Layout(tmp_path / "node")
    layout.root.mkdir()
    (old / "postmaster.pid").touch()
    for copy in (True, False):
        with pytest.raises(NoDataDirectory, match="in the meantime"):
            bring(old, layout, copy=copy)
    assert old.exists()
    assert not layout.pgdata.exists()


TEXT = """\
data_directory = '/old'		# where
 hba_file='/etc/x'
#external_pid_file = ''
external_pid_file = '/run/x'
include_dir = 'conf.d'
work_mem = 5MB
"""


@pytest.mark.parametrize("elsewhere", [True, False])
def test_settings_fit_to_their_new_place(old: Path, tmp_path: Path, elsewhere: bool) -> None:
    """Places of files no longer count; what a file elsewhere includes does not either."""
    layout = Layout(tmp_path / "node")
    layout.root.mkdir()
    source = tmp_path / "elsewhere.conf" if elsewhere else old / "postgresql.conf"
    if elsewhere:
        (old / "postgresql.conf").unlink()
    source.write_text(TEXT)
    (old / "patroni.dynamic.json").write_text("{}")
    bring(old, layout, copy=False)
    for _ in range(2):
        take_settings(layout, str(source) if elsewhere else "")
    counts = [
        line
        for line in (layout.pgdata / "postgresql.conf").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert counts == ([] if elsewhere else ["include_dir = 'conf.d'"]) + ["work_mem = 5MB"]
    assert (layout.root / KEPT / "postgresql.conf").read_text() == TEXT
    assert not (layout.pgdata / "patroni.dynamic.json").exists()


def test_files_of_other_accounts_are_seen(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only their names are needed."""
    stranger = old / "global" / "pg_control"
    lstat = Path.lstat

    def other(path: Path) -> os.stat_result:
        found = list(lstat(path))
        if path == stranger:
            found[4] += 1
        return os.stat_result([*found])

    monkeypatch.setattr(Path, "lstat", other)
    monkeypatch.setattr(os.stat_result, "st_blocks", 0, raising=False)
    assert module._tree(old, old.stat().st_uid)[1] == ("global/pg_control",)

"""A first node's directory, after a crash at any write."""

from pathlib import Path

import pytest

from openvcha.node.first_node import creation
from openvcha.node.first_node.creation import (
    BEGUN,
    Adopted,
    Begun,
    CannotCreate,
    begun_in,
    complete,
    prepare_directory,
    why_not_continued,
)
from openvcha.node.identity import IDENTITY
from openvcha.system.files.durable import write_durably

FILES = {"secrets.json": b"1", "tls/ca.key": b"2", "tls/ca.crt": b"3", IDENTITY: b"4"}


class PowerLost(Exception):  # noqa: N818 - named after the event
    """The machine stops here."""


def made(directory: Path, files: dict[str, bytes], begun: Begun | None = None) -> None:
    prepare_directory(directory, files, begun or Begun())
    complete(directory, files[IDENTITY])


def test_a_crash_at_each_write_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is no node until everything is there, and the next run replaces all files."""
    write, counted = write_durably, 0
    for crash in range(len(FILES) + 1):
        directory, counted = tmp_path / str(crash), 0
        directory.mkdir()

        def crashing(path: Path, data: bytes, crash: int = crash) -> None:
            nonlocal counted
            if counted == crash:
                raise PowerLost
            counted += 1
            write(path, data)

        monkeypatch.setattr(creation, "write_durably", crashing)
        with pytest.raises(PowerLost):
            made(directory, FILES)
        assert not (directory / IDENTITY).exists()
        monkeypatch.setattr(creation, "write_durably", write)
        assert (begun_in(directory) is None) is (crash == 0)
        made(directory, {**FILES, "secrets.json": b"new"})
        found = {str(path.relative_to(directory)) for path in directory.rglob("*")}
        assert found == {*FILES, "tls"}
        assert (directory / "secrets.json").read_bytes() == b"new"


def test_a_directory_is_no_node_before_its_data_are_there(tmp_path: Path) -> None:
    """They are adopted between both steps: it must not start without them."""
    prepare_directory(tmp_path, FILES, Begun())
    assert not (tmp_path / IDENTITY).exists()
    complete(tmp_path, FILES[IDENTITY])
    assert (tmp_path / IDENTITY).read_bytes() == FILES[IDENTITY]


def test_a_node_whose_mark_is_left_is_not_made_again(tmp_path: Path) -> None:
    """It may have run meanwhile: new secrets would cost its data."""
    made(tmp_path, FILES)
    (tmp_path / BEGUN).write_bytes(b"{}")
    with pytest.raises(CannotCreate, match="already holds a node"):
        begun_in(tmp_path)


def test_what_an_earlier_run_wrote_and_this_one_does_not_is_gone(tmp_path: Path) -> None:
    """A key of other authorities must not stay."""
    prepare_directory(tmp_path, FILES | {"tls/other.key": b"5"}, Begun())
    made(tmp_path, FILES)
    assert not (tmp_path / "tls" / "other.key").exists()


def test_a_directory_with_anything_else_is_refused(tmp_path: Path) -> None:
    """A node's directory and any file; an empty or missing one is not."""
    assert begun_in(tmp_path) is None
    assert begun_in(tmp_path / "missing") is None
    (tmp_path / "x").touch()
    with pytest.raises(CannotCreate, match="is not empty"):
        begun_in(tmp_path)
    (tmp_path / IDENTITY).touch()
    with pytest.raises(CannotCreate, match="already holds a node"):
        begun_in(tmp_path)
    with pytest.raises(CannotCreate, match="is not a directory"):
        begun_in(tmp_path / "x")


def test_a_mark_that_is_unreadable_is_no_mark(tmp_path: Path) -> None:
    """It says what to delete."""
    (tmp_path / BEGUN).write_bytes(b"{")
    with pytest.raises(CannotCreate, match="delete it"):
        begun_in(tmp_path)


def test_adopted_data_are_not_forgotten(tmp_path: Path) -> None:
    """A later run continues with them, or says how to put them back."""
    begun = Begun(adopted=Adopted(source="/srv/old", system="1"))
    assert why_not_continued(tmp_path, begun, "") == ""
    (tmp_path / "pgdata").mkdir()
    assert why_not_continued(tmp_path, begun, "/srv/old") == ""
    assert why_not_continued(tmp_path, begun, str(tmp_path / "pgdata")) == ""
    for wanted in ("", "/srv/other"):
        why = why_not_continued(tmp_path, begun, wanted)
        assert "continue with --adopt /srv/old" in why
        assert f"`mv {tmp_path / 'pgdata'} /srv/old`" in why


def test_data_that_are_in_place_must_be_adopted(tmp_path: Path) -> None:
    """Otherwise they would become a new cluster's by accident."""
    own = tmp_path / "pgdata"
    own.mkdir()
    assert begun_in(tmp_path, str(own)) is None
    assert why_not_continued(tmp_path, None, str(own)) == ""
    assert "adopt them" in why_not_continued(tmp_path, Begun(), "")
    with pytest.raises(CannotCreate, match="is not empty"):
        begun_in(tmp_path)

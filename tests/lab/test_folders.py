"""Where labs are stored."""

import os
from pathlib import Path

import pytest

from openvcha.client.errors import CommandError
from openvcha.lab import folders
from openvcha.lab.errors import LabNotFound
from openvcha.lab.state import Lab, LabState

NOBODY = (65534, 65534)
STATE = LabState(name="x", octet=99, cluster_id="c")


def test_the_state_home_is_used_only_when_it_is_absolute(tmp_path: Path) -> None:
    """As the XDG specification requires."""
    home = Path.home() / ".local" / "state" / "openvcha"
    assert folders.user_base({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "openvcha"
    assert folders.user_base({"XDG_STATE_HOME": "state"}) == home
    assert folders.user_base({}) == home


def test_an_account_that_may_not_enter_gets_the_shared_folder(tmp_path: Path) -> None:
    """Root's home is closed to others; a requested folder is not replaced silently."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    base = closed / "openvcha"
    other = (os.getuid() + 1, os.getgid() + 1)
    shared = tmp_path / "shared"
    assert folders.base_for_new_lab(None, None, base, shared) == base
    assert folders.base_for_new_lab(None, (os.getuid(), os.getgid()), base, shared) == base
    assert folders.base_for_new_lab(None, other, base, shared) == shared
    with pytest.raises(CommandError, match="--dir"):
        folders.base_for_new_lab(base, other, base, shared)


def test_reachable_asks_the_bit_of_owner_group_or_others(tmp_path: Path) -> None:
    """The first that applies decides, as in the kernel."""
    folder = tmp_path / "a"
    folder.mkdir()
    uid, gid = os.getuid(), os.getgid()
    for mode, owner, group, others in ((0o700, 1, 0, 0), (0o670, 0, 1, 0), (0o661, 0, 0, 1)):
        folder.chmod(mode)
        # The folders above pytest's do not matter here.
        found = [
            folders._may_enter(folder.stat(), *who)
            for who in ((uid, gid), (uid + 1, gid), (uid + 1, gid + 1))
        ]
        assert found == [bool(owner), bool(group), bool(others)]


def test_a_lab_is_found_by_its_name(tmp_path: Path) -> None:
    """Only a created lab counts."""
    with pytest.raises(LabNotFound, match=f"`vcha lab up --name x --dir {tmp_path}` creates one"):
        folders.find("x", tmp_path)
    Lab(tmp_path / "x").make(STATE)
    assert folders.find("x", tmp_path).directory == tmp_path / "x"
    assert [lab.directory.name for lab in folders.labs([tmp_path, tmp_path / "no"])] == ["x"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-x", "x" * 33, ".hidden"])
def test_a_name_is_never_a_path(name: str, tmp_path: Path) -> None:
    """Nor anything else that surprises in a shell."""
    with pytest.raises(CommandError, match="is not a valid lab name"):
        folders.find(name, tmp_path)


def test_other_peoples_directories_are_left_alone(tmp_path: Path) -> None:
    """A lab's directory changes owner and is deleted: it must be empty, or a lab's."""
    folders.check_directory(tmp_path / "new")
    folders.check_directory(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="not a lab's"):
        folders.check_directory(tmp_path)
    with pytest.raises(CommandError, match="not a directory"):
        folders.check_directory(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(CommandError, match="is a symbolic link"):
        folders.check_directory(tmp_path / "link")
    Lab(tmp_path / "lab").make(STATE)
    folders.check_directory(tmp_path / "lab")


def test_a_lab_that_is_just_being_made_is_one(tmp_path: Path) -> None:
    """A second command waits for the first; what a crash left there is no obstacle."""
    lab = Lab(tmp_path)
    (tmp_path / f".{lab.passwords_file.name}.new").touch()
    folders.check_directory(tmp_path)
    (tmp_path / "another").touch()
    with pytest.raises(CommandError, match="not a lab's"):
        folders.check_directory(tmp_path)


def test_a_command_is_advised_with_the_options_that_find_the_lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As shown it means this lab, and not another one with the usual name."""
    monkeypatch.delenv(folders.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own"))
    own, shared, other = folders.user_base(), tmp_path / "shared", tmp_path / "an other"
    monkeypatch.setattr(folders, "SHARED", shared)
    for base in (own, shared, other):
        (base / "default").mkdir(parents=True)
    assert folders.shell_command(Lab(own / "default"), "lab up") == "`vcha lab up`"
    assert folders.shell_command(Lab(own / "x"), "lab up") == "`vcha lab up --name x`"
    assert folders.shell_command(Lab(shared / "default"), "lab up") == "`vcha lab up`"
    assert (
        folders.shell_command(Lab(other / "x"), "lab up")
        == f"`vcha lab up --name x --dir '{other}'`"
    )
    Lab(own / "default").make(STATE)
    # Without an option the account's own one is found first.
    assert folders.lab_options(Lab(shared / "default")) == f" --dir {shared}"
    monkeypatch.setenv(folders.VARIABLE, f"{other}/")
    assert folders.lab_options(Lab(other / "default")) == ""
    assert folders.lab_options(Lab(own / "default")) == f" --dir {own}"

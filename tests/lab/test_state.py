"""A lab's own files."""

from pathlib import Path

import pytest

from openvcha.api.secret import Secret
from openvcha.client.errors import CommandError
from openvcha.lab.state import ADMINISTRATOR, READER, Lab, LabState

STATE = LabState(name="x", octet=99, cluster_id="c")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a lab that was just created."""
    made = Lab(tmp_path / "x")
    made.make(STATE)
    return made


def test_passwords_are_for_their_owner_only(lab: Lab) -> None:
    """Others can neither read a file with a password, nor enter the lab."""
    assert lab.directory.stat().st_mode & 0o777 == 0o700
    for path in (lab.passwords_file, lab.pgpass):
        assert path.stat().st_mode & 0o777 == 0o600
    passwords = {lab.password(name).reveal() for name in (ADMINISTRATOR, READER, "app")}
    assert len(passwords) == 3
    assert lab.pgpass.read_text() == f"127.99.1.10:*:*:app:{lab.password('app').reveal()}\n"


def test_making_a_lab_twice_changes_nothing(lab: Lab) -> None:
    """A repeated up, after one that was killed, keeps the first one's decisions."""
    before = {path: path.read_bytes() for path in lab.directory.iterdir()}
    lab.make(LabState(name="y", octet=100, cluster_id="d"))
    assert {path: path.read_bytes() for path in lab.directory.iterdir()} == before


def test_a_changed_password_is_learned_for_users_that_the_lab_keeps(lab: Lab) -> None:
    """Names are compared as by the API; the database's role is not a user of the API."""
    assert lab.update_password(ADMINISTRATOR.upper(), Secret("new"))
    assert lab.password(ADMINISTRATOR).reveal() == "new"
    database = lab.password("app")
    assert not lab.update_password("app", Secret("new"))
    assert not lab.update_password("bob", Secret("new"))
    assert lab.password("app") == database
    assert not lab.knows("app")


def test_what_cannot_be_read_is_told_with_its_path(lab: Lab) -> None:
    """Damaged files do not cause a traceback."""
    lab.state_file.write_text("{")
    with pytest.raises(CommandError, match=r"lab\.json cannot be read"):
        lab.state()
    lab.passwords_file.unlink()
    with pytest.raises(CommandError, match=r"passwords\.json cannot be read"):
        lab.password(READER)

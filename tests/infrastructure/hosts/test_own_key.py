"""The SSH key of a data node."""

import subprocess
from pathlib import Path

import pytest

from openvcha.infrastructure.hosts.host_key import checked
from openvcha.infrastructure.hosts.own_key import public_key


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """What is shown is what `ssh-keygen` finds in the file."""
    file = tmp_path / "ssh_key"
    shown = public_key(file)
    assert public_key(file) == shown
    assert file.stat().st_mode & 0o777 == 0o600
    found = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, check=True)
    assert checked(found.stdout.decode()) == checked(shown)


def test_a_broken_key_is_not_replaced(tmp_path: Path) -> None:
    """Somebody may still need it."""
    file = tmp_path / "ssh_key"
    file.write_text("broken")
    with pytest.raises(ValueError, match="nvalid"):
        public_key(file)
    assert file.read_text() == "broken"

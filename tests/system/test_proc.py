"""Processes, as the kernel shows them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openvcha.system import proc as module
from openvcha.system.proc import boot_id, read_stat, read_uid


def test_a_process_is_read() -> None:
    """This one."""
    found = read_stat(os.getpid())
    assert found
    assert (found.parent, found.group, found.session) == (
        os.getppid(),
        os.getpgrp(),
        os.getsid(0),
    )
    assert not found.ended
    assert found.started > 0
    times = os.times()
    assert 0 < found.user_ticks <= times.user * os.sysconf("SC_CLK_TCK") + 1


def test_one_that_waits_to_be_reaped_has_ended() -> None:
    """Its id still exists, but the process does not."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        found = read_stat(child.pid)
        assert found
        assert found.ended
    assert read_stat(child.pid) is None


@pytest.mark.parametrize("name", ["plain", "with space", "a) S 1 (b", "((", "))"])
def test_a_name_forges_nothing(tmp_path: Path, name: str) -> None:
    """A program chooses its name, even one that looks like the fields after it."""
    (tmp_path / "7").mkdir()
    numbers = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "7" / "stat").write_text(f"7 ({name}) T {numbers}\n")
    found = read_stat(7, tmp_path)
    assert found
    # The numbers are those of the fields in the manual, proc_pid_stat(5).
    assert found == (name, "T", 4, 5, 6, 14, 15, 22)


def test_a_process_has_its_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An account that the user namespace does not map looks like ours, and has none."""
    assert read_uid(os.getpid()) == os.geteuid()
    (tmp_path / "7").mkdir()
    owner = tmp_path.stat().st_uid
    for error in (PermissionError, ProcessLookupError):

        def deny(*_: object, error: type[OSError] = error) -> None:
            raise error

        monkeypatch.setattr(os, "kill", deny)
        assert read_uid(7, tmp_path) == owner
        with monkeypatch.context() as patch:
            patch.setattr(module, "UNMAPPED_UID", owner)
            assert read_uid(7, tmp_path) is None
    assert read_uid(8, tmp_path) is None


def test_the_id_of_the_boot_is_read(tmp_path: Path) -> None:
    """It stays the same until the machine restarts."""
    assert boot_id() == boot_id() != ""
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("another\n")
    assert boot_id(tmp_path) == "another"

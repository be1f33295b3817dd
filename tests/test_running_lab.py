"""Bringing a lab up for tests, with SIMULATED commands: whatever fails, no lab goes on running."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.lab import running_lab
from tests.support.lab.running_lab import lab_up


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the commands that were run; ``lab up`` fails."""
    run: list[list[str]] = []

    def vcha(arguments: Sequence[str], **_: Any) -> None:
        run.append(list(arguments))
        if "up" in arguments:
            raise AssertionError("the lab does not come up")

    monkeypatch.setattr(running_lab, "run_vcha", vcha)
    return run


def test_a_lab_that_does_not_come_up_is_deleted(commands: list[list[str]], tmp_path: Path) -> None:
    """Its nodes may run already: they would keep addresses and processors from every other test."""
    with pytest.raises(AssertionError, match="does not come up"), lab_up(tmp_path, name="other"):
        pass
    assert [command[:2] for command in commands] == [["lab", "up"], ["lab", "reset"]]
    assert all(command[-4:-2] == ["--name", "other"] for command in commands)

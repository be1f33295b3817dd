"""Whatever extends Patroni is loaded with it: what is forgotten guards nothing, and nobody sees."""

from pathlib import Path

import openvcha.node
from openvcha.node.patroni_launcher import EXTENSIONS


def test_every_extension_that_there_is_is_installed() -> None:
    """None twice."""
    (folder,) = map(Path, openvcha.node.__path__)
    there = {
        f"openvcha.node.{path.stem}"
        for path in folder.glob("patroni_*.py")
        if "\ndef install()" in path.read_text()
    }
    assert set(EXTENSIONS) == there
    assert len(EXTENSIONS) == len(there) > 5

"""Which VMs a node hangs on is on its own disk: it is asked when nothing else answers."""

from pathlib import Path

import pytest

from openvcha.node.layout import Layout
from openvcha.node.relied import relied_on, rely_on, rely_on_nobody


def test_what_was_written_is_read_by_the_next_run(tmp_path: Path) -> None:
    """The newest counts alone."""
    rely_on(Layout(tmp_path), ["vm-1"])
    rely_on(Layout(tmp_path), ["vm-2", "vm-3"])
    assert relied_on(Layout(tmp_path)) == ("vm-2", "vm-3")


def test_after_the_task_nobody_is_relied_on(tmp_path: Path) -> None:
    """Else what a person switches off would be powered on; to forget twice is no fault."""
    layout = Layout(tmp_path)
    rely_on(layout, ["vm-1"])
    for _ in range(2):
        rely_on_nobody(layout)
        assert relied_on(layout) == ()


@pytest.mark.parametrize("content", [b"", b"{", b'{"vms": 1}', b"\xff"])
def test_what_cannot_be_read_powers_nobody_on(tmp_path: Path, content: bytes) -> None:
    """It must not end the look either."""
    layout = Layout(tmp_path)
    layout.relied.write_bytes(content)
    assert relied_on(layout) == ()

"""Log lines of the product do not appear between the lines of a command."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from openvcha.cli.output.logs import log_to_stderr


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Log as a command does, for this test only."""
    log_to_stderr()
    yield
    structlog.reset_defaults()


def test_details_for_engineers_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: a debug line appeared in the middle of `vcha node promote`."""
    log = structlog.get_logger()
    log.debug("the lag is unknown")
    log.info("it goes on")
    assert capsys.readouterr() == ("", "")


def test_a_warning_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Others' text in it moves no cursor."""
    structlog.get_logger().warning("a record is unreadable", key="/a\x1b[2J", reason="x\ny")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("vcha: a record is unreadable (key=/a")
    assert "\x1b" not in shown.err
    assert len(shown.err.splitlines()) == 1


def test_a_failure_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """However it was passed to structlog."""
    log, failure = structlog.get_logger(), ValueError("no good")
    try:
        raise failure
    except ValueError:
        log.exception("it broke")
    log.error("it broke", exc_info=failure)
    assert capsys.readouterr().err == "vcha: it broke (ValueError: no good)\n" * 2


def test_a_line_that_nobody_can_read_fails_no_call() -> None:
    """The supervisor reads the service's output; once, its death failed every call."""
    code = (
        "import os, structlog\n"
        "from openvcha.cli.node.programs import _log_as_json\n"
        "_log_as_json()\n"
        "for _ in range(3):\n"
        "    structlog.get_logger().info('call', user='bob')\n"
        "    structlog.get_logger().error('broke', exc_info=ValueError('x'))\n"
        "os._exit(7)\n"
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=write_end,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (7, b"")

"""Log lines of the product do not appear between the lines of a command."""

import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest
import structlog
from tests.support.attackers.hostile_terminal import HOSTILE

from openvcha.api.foreign_text import printable
from openvcha.cli.output.logs import log_to_stderr


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Log as a command does, for this test only."""
    monkeypatch.setattr(logging.root, "handlers", list(logging.root.handlers))
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    log_to_stderr()
    yield
    logging.captureWarnings(False)
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


BEGINNINGS = {
    "a command": "from openvcha.cli.output.logs import log_to_stderr; log_to_stderr()",
    "a node": "from openvcha.cli.output.logs import log_to_stderr; log_to_stderr(tracebacks=True)",
    "a part": "from openvcha.cli.node.programs import _log_as_json; _log_as_json()",
}
STRAYS = {
    "a library's error": "logging.getLogger('asyncio').error(HOSTILE)",
    "a library's exception": """
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logging.getLogger('x').exception(HOSTILE)
        """,
    "arguments that do not fit": "logging.getLogger('x').error(HOSTILE + '%d', HOSTILE)",
    "a task that nobody awaits": """
        async def fails():
            raise ValueError(HOSTILE)

        async def starts():
            asyncio.create_task(fails(), name=HOSTILE)
            await asyncio.sleep(0)

        asyncio.run(starts())
        """,
    "a warning": "warnings.warn(HOSTILE)",
    "a destructor": """
        class Fails:
            def __del__(self):
                raise ValueError(HOSTILE)

        Fails()
        """,
    "a thread": """
        def fails():
            raise ValueError(HOSTILE)

        thread = threading.Thread(target=fails, name=HOSTILE)
        thread.start()
        thread.join()
        """,
    "an exception that ends the program": "raise ValueError(HOSTILE)",
}


@pytest.mark.parametrize("stray", STRAYS.values(), ids=STRAYS.keys())
@pytest.mark.parametrize("begins", BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_what_python_itself_prints_is_text(begins: str, stray: str) -> None:
    """Logs of libraries, warnings and exceptions that reach nobody."""
    code = (
        "import asyncio, gc, logging, threading, warnings\n"
        f"{begins}\nHOSTILE = {HOSTILE!r}\n{textwrap.dedent(stray)}\ngc.collect()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    shown = done.stderr.decode()
    assert printable(HOSTILE) in shown or printable(repr(HOSTILE)) in shown
    lines = shown.removesuffix("\n").split("\n")
    assert [line for line in lines if printable(line) != line] == []
    assert not [line for line in lines if line.strip().startswith("FORGED")]
    assert done.stdout == b""


def test_a_command_prints_one_line_and_a_node_where_it_was() -> None:
    """Only who runs a node needs the traceback."""
    script = "; import logging, threading; threading.Thread(target=lambda: 1 / 0).start()"
    shown = {
        name: subprocess.run(
            [sys.executable, "-c", begins + script], capture_output=True, check=True
        ).stderr.decode()
        for name, begins in BEGINNINGS.items()
    }
    first = "vcha: thread Thread-1 (<lambda>) failed (ZeroDivisionError: division by zero)\n"
    assert shown["a command"] == first
    for name in ("a node", "a part"):
        assert shown[name].startswith(first + "Traceback (most recent call last):\n")


def test_python_logs_that_nobody_can_read_fail_nothing() -> None:
    """As with the product's own lines."""
    code = BEGINNINGS["a part"] + (
        "; import logging, os, warnings\n"
        "logging.getLogger('x').error('broke')\nwarnings.warn('old')\nos._exit(7)\n"
    )
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run([sys.executable, "-c", code], stderr=write_end, check=False)
    finally:
        os.close(write_end)
    assert done.returncode == 7

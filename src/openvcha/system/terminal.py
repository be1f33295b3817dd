"""Going on as another account without leaving it the terminal of who was here before.

An account may trace its own processes, and who controls a process of a terminal's session may type
into that terminal (TIOCSTI): into root's shell, once the command has ended. So the program that
goes on is of another session, and who was here before only waits for it.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

WAITS = "vcha-waits"
"""What a process that only waits calls itself; at most 15 letters."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
OWN_COMM = Path("/proc/self/comm")


def go_on(command: Sequence[str], change: Callable[[], None]) -> NoReturn:
    """Replace this program, after a ``change`` of who it is; it gets no controlling terminal.

    With such a terminal this process stays, passes signals on, and ends as the program does.
    """
    if not has_terminal():
        change()
        os.execv(command[0], list(command))  # noqa: S606 - no shell is meant
    passed = [each for each in PASSED_ON if signal.getsignal(each) is not signal.SIG_IGN]
    signal.pthread_sigmask(signal.SIG_BLOCK, passed)  # none is lost between the two
    child = os.fork()
    if child == 0:
        _begin(command, change, passed)
    os._exit(_wait(child, passed))


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _begin(
    command: Sequence[str], change: Callable[[], None], passed: Sequence[signal.Signals]
) -> NoReturn:
    try:
        os.setsid()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        change()
        for number in passed:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
        os.execv(command[0], list(command))  # noqa: S606 - no shell is meant
    except OSError as error:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"vcha: {error}\n".encode())
    finally:
        os._exit(1)


def _wait(child: int, passed: Sequence[signal.Signals]) -> int:
    """Return the exit code of a child, 128+n when a signal has ended it."""

    def pass_on(number: int, _: object) -> None:
        # As a terminal does: to the whole group, of which the child is the first.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)
            return
        os.kill(child, number)  # it has no group of its own yet

    with contextlib.suppress(OSError):
        OWN_COMM.write_text(WAITS)
    for number in passed:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
    # The child is not forgotten before no signal can be sent any more: its id stays its own.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code

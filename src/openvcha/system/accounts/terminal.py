"""Continuing as another account without giving it our terminal, files and environment.

An account may trace its own processes, and a process in a terminal's session may inject input into
that terminal (TIOCSTI), and so into root's shell once the command has ended. So the program
continues in a new session, and the original process only waits for it.

It may also read the environment of its processes. So only what the program needs is passed on.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from openvcha.system.accounts.local_user import TOLD

WAITS = "vcha-waits"
"""The name of a process that only waits; at most 15 characters."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# How to run, where files are, how to show text, and who is at work (for the audit).
NAMES_PASSED_ON = frozenset(
    {
        *("PATH", "LD_LIBRARY_PATH", "HOME", "XDG_STATE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("LANG", "LANGUAGE", "TZ", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR"),
        *("COLUMNS", "LINES", TOLD),
    }
)
PREFIXES_PASSED_ON = ("LC_", "OPENVCHA_", "PYTHON")
OWN_COMM = Path("/proc/self/comm")


def exec_detached(command: Sequence[str], change: Callable[[], None]) -> NoReturn:
    """Replace this program, after a ``change`` of account; it gets no controlling terminal.

    Of our open files it gets only 0, 1 and 2. If there is such a terminal, this process stays,
    forwards signals, and ends as the program does.
    """
    if not has_terminal():
        change()
        _exec(command)
    passed = [each for each in PASSED_ON if signal.getsignal(each) is not signal.SIG_IGN]
    signal.pthread_sigmask(signal.SIG_BLOCK, passed)  # no signal is lost between fork and handlers
    child = os.fork()
    if child == 0:
        _begin(command, change, passed)
    os._exit(_wait(child, passed))


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a program of another account gets of root's environment: no secrets.

    Like sudo, it also tells that root called the program, unless sudo has told whom root acts for.
    """
    return {TOLD: "0"} | {
        name: value
        for name, value in environment.items()
        if name in NAMES_PASSED_ON or name.startswith(PREFIXES_PASSED_ON)
    }


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def write_error(text: str) -> None:
    """Write a line to standard error, without what a terminal would obey. Raises OSError."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{_ascii(text)}\n".encode())


def _begin(
    command: Sequence[str], change: Callable[[], None], passed: Sequence[signal.Signals]
) -> NoReturn:
    try:
        os.setsid()
        change()
        for number in passed:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
        _exec(command)
    except OSError as error:
        write_error(f"vcha: {error}")
    finally:
        os._exit(1)


def _exec(command: Sequence[str]) -> NoReturn:
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # root's other files
    os.execve(command[0], list(command), passed_on(os.environ))  # noqa: S606 - no shell is needed


def _ascii(text: str) -> str:
    """Escape all but visible ASCII characters: the text may name a file of the other account."""
    return "".join(
        letter if " " <= letter <= "~" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _wait(child: int, passed: Sequence[signal.Signals]) -> int:
    """Return the exit code of a child, 128+n if signal n has ended it."""

    def pass_on(number: int, _: object) -> None:
        # As a terminal does: to the whole group, which the child leads.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)
            return
        os.kill(child, number)  # it has no group yet

    with contextlib.suppress(OSError):
        OWN_COMM.write_text(WAITS)
    for number in passed:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
    # The child is reaped only when no more signals can be sent: until then its pid is not reused.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code

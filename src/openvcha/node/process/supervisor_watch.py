"""The watch of the supervisor until it dismisses this program, dies or hangs.

If it dies or hangs, this program becomes the reaper. It is separate, and Python runs it by its path
and with only its core (``-I -S``), since it waits as long as the node runs. So it imports nothing
of openvcha, and little else.

Its standard input is a pipe whose other end only the supervisor holds. The supervisor's event loop
sends heartbeats there. One byte (DISMISS) dismisses this program; an end of file without that byte
means that the supervisor died. Silence alone proves nothing, as in `heartbeat.py`: a silent
supervisor hangs if it did not run between several checks either. Checks are counted, not seconds:
after a freeze of the whole machine the supervisor has time to send heartbeats again.

It ignores the signals that stop a whole service at once: a service manager sends them to everything
that a dead supervisor has left. So does the reaper.
"""

import os
import select
import signal
import sys

STDIN = 0
DISMISS = b"g"
BEAT = b"."
BEAT_SECONDS = 10.0
CHECK_SECONDS = 10.0
CHECKS = 6
DIED, HANGS = "died", "hangs"
IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RUNS = "R"
SWITCHES = (b"voluntary_ctxt_switches", b"nonvoluntary_ctxt_switches")
MAX_READ_BYTES = 4096


def main(arguments: list[str]) -> None:
    """Wait; then run the module that the arguments name, and pass it the result.

    The arguments are the module, the node's directory, the supervisor's pid and the seconds between
    two checks.
    """
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    *module, supervisor, check_seconds = arguments
    if ended := wait(int(supervisor), float(check_seconds)):
        argv = [sys.executable, "-m", *module, supervisor, ended]
        os.execv(sys.executable, argv)  # noqa: S606 - ourselves


def wait(supervisor: int, check_seconds: float) -> str | None:
    """Wait for the end of the supervisor; return DIED, HANGS, or None if dismissed."""
    silence = ThreadActivity()
    while True:
        if not select.select([STDIN], [], [], check_seconds)[0]:
            if silence.hangs(thread_state(supervisor)):
                return HANGS
            continue
        said = os.read(STDIN, MAX_READ_BYTES)
        if DISMISS in said:
            return None
        if not said:
            return DIED
        silence = ThreadActivity()


class ThreadActivity:
    """The supervisor's thread states since its last heartbeat."""

    def __init__(self) -> None:
        self._still = 0
        self._last: tuple[str, int] | None = None

    def hangs(self, thread: tuple[str, int] | None) -> bool:
        """Return whether it hangs, after one more check; unknown (None) counts as alive."""
        still = thread is not None and thread[0] != RUNS and thread == self._last
        self._still = self._still + 1 if still else 0
        self._last = thread
        return self._still >= CHECKS


def thread_state(pid: int, proc: str = "/proc") -> tuple[str, int] | None:
    """Return the state of a program's first thread and its context switches.

    None if it has exited or is not counted.
    """
    try:
        with open(f"{proc}/{pid}/task/{pid}/status", "rb") as file:  # noqa: PTH123 - costs a megabyte
            lines = b"\n" + file.read()
    except OSError:
        return None
    state = word_after(b"State", lines)
    counts = [word_after(name, lines) for name in SWITCHES]
    if state is None or not any(counts):
        return None
    return state.decode(), sum(int(count) for count in counts if count)


def word_after(name: bytes, lines: bytes) -> bytes | None:
    """Return the first word of the line with this name; None if there is none."""
    _, found, rest = lines.partition(b"\n%s:" % name)
    words = rest.split(None, 1) if found else []
    return words[0] if words else None


if __name__ == "__main__":
    main(sys.argv[1:])

"""Waits for the supervisor's word or death, and then becomes the reaper.

A program of its own, which Python runs by its path and with nothing but its own core (``-I -S``):
it waits for as long as the node lives. So it imports nothing of openvcha, and little else.

Its standard input is a pipe whose other end only the supervisor holds. One byte there dismisses it;
an end without that byte is a death. It is deaf to the signals that end a whole service at once: a
service manager sends them to everything that a dead supervisor has left. So is what it becomes.
"""

import os
import signal
import sys

STDIN = 0
DEAF_TO = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Wait; then run the module that the arguments name, with the arguments that follow."""
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    if not os.read(STDIN, 1):
        os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])  # noqa: S606 - ourselves


if __name__ == "__main__":
    main()

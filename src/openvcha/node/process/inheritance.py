"""What a process leaves to all that it starts, put in order before it starts anything.

Signals that are blocked or ignored stay so in every program that is started from here: under nohup,
or from a shell's background job, PostgreSQL and etcd would be deaf to what should stop them.
"""

import os
import resource
import signal

PRIVATE = 0o077
# Python ignores these itself, and restores them in what it starts.
PYTHONS_OWN = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


def put_in_order() -> None:
    """Block and ignore nothing, hold no directory busy, keep files and memory to oneself."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in PYTHONS_OWN:
            # A handler stays here, where nohup shall hold; a program that is started has none.
            signal.signal(number, lambda *_: None)
    os.umask(PRIVATE)
    os.chdir("/")
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # memory holds passwords

"""The reset of what child processes inherit, before any is started.

Blocked or ignored signals stay so in every child: under nohup, or in a shell's background job,
PostgreSQL and etcd would ignore the signals that should stop them.
"""

import os
import resource
import signal

PRIVATE_UMASK = 0o077
# Python itself ignores these, and restores them in its children.
IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


def reset_inherited_state() -> None:
    """Reset signals, the working directory, the umask and the limit of core files."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in IGNORED_BY_PYTHON:
            # A handler keeps nohup working here; children do not inherit it.
            signal.signal(number, lambda *_: None)
    os.umask(PRIVATE_UMASK)
    os.chdir("/")
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # memory contains passwords

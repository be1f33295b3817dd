"""The launcher of Patroni, which loads its modules in advance: that takes most of a second.

It starts Patroni when it reads one byte from standard input, and exits on an end of file before
that. Then its standard input becomes /dev/null, which PostgreSQL inherits: a backend whose
postmaster died while it waited for the standby reads its next command there, and must get an end of
file. On a silent pipe it would wait forever, and no other PostgreSQL could start beside it. Patroni
starts PostgreSQL from a new Python that imports this module again: keep it light.
"""

import importlib
import os
from collections.abc import Iterable
from types import ModuleType

from openvcha.node.process.gate import GO

STDIN = 0
PRELOADED_MODULES = (
    "patroni.__main__",
    "patroni.api",
    "patroni.config",
    "patroni.dcs.etcd3",
    "patroni.ha",
    "patroni.postgresql",
    "patroni.psycopg",
    "patroni.watchdog",
)
PATCHES = (
    "openvcha.node.patroni.patches.connections",
    "openvcha.node.patroni.patches.endpoints",
    "openvcha.node.patroni.patches.key_forms",
    "openvcha.node.patroni.patches.seals",
    "openvcha.node.patroni.patches.full_store",
    "openvcha.node.patroni.patches.lease_renewal",
    "openvcha.node.patroni.patches.no_commands",
    "openvcha.node.patroni.patches.members",
    "openvcha.node.patroni.patches.startup_wait",
    "openvcha.node.patroni.patches.switchover_wait",
    "openvcha.node.patroni.patches.modes",
    "openvcha.node.patroni.patches.tcp_nodelay",
    "openvcha.node.patroni.patches.atomic_release",
    "openvcha.node.patroni.patches.sessions",
    "openvcha.node.patroni.patches.slots",
    "openvcha.node.patroni.patches.takeover",
)


def main() -> None:
    """Load Patroni, wait for the byte, run Patroni."""
    patroni, *_ = [importlib.import_module(name) for name in PRELOADED_MODULES]
    changes = [importlib.import_module(name) for name in PATCHES]
    require_known_patroni(changes)
    for change in changes:
        change.install()
    if os.read(STDIN, len(GO)) != GO:
        raise SystemExit("the supervisor exited before Patroni was allowed to start")
    release_stdin()
    patroni.main()


def require_known_patroni(changes: Iterable[ModuleType]) -> None:
    """Raise SystemExit unless the patches were written for this version of Patroni."""
    pins = importlib.import_module("openvcha.node.patroni.patches.pins")
    try:
        pins.check(changes)
    except pins.UnsupportedPatroniError as error:
        raise SystemExit(str(error)) from None


def release_stdin() -> None:
    """Replace the supervisor's pipe with /dev/null. Raises OSError."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, STDIN)
    os.close(null)


if __name__ == "__main__":
    main()

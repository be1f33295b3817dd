"""Starts Patroni, made ready before its moment: its modules take most of a second to load.

Reads one byte of its standard input as the word to go; ends when the input ends without it. Then
its standard input is /dev/null, which PostgreSQL inherits: a backend whose postmaster died while it
waited for the standby reads its next command there, and has to find the end. At a pipe that nobody
writes to it would wait for ever, and no other PostgreSQL can start beside it.
Patroni starts PostgreSQL from a fresh Python that loads this module again: keep it light.
"""

import importlib
import os
from collections.abc import Iterable
from types import ModuleType

from openvcha.node.process.gate import GO

STDIN = 0
LATE_MODULES = (
    "patroni.__main__",
    "patroni.api",
    "patroni.config",
    "patroni.dcs.etcd3",
    "patroni.ha",
    "patroni.postgresql",
    "patroni.psycopg",
    "patroni.watchdog",
)
EXTENSIONS = (
    "openvcha.node.patroni.patches.connections",
    "openvcha.node.patroni.patches.endpoints",
    "openvcha.node.patroni.patches.key_forms",
    "openvcha.node.patroni.patches.seals",
    "openvcha.node.patroni.patches.full_store",
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
    """Load, wait for the word, be Patroni."""
    patroni, *_ = [importlib.import_module(name) for name in LATE_MODULES]
    changes = [importlib.import_module(name) for name in EXTENSIONS]
    refuse_another_patroni(changes)
    for change in changes:
        change.install()
    if os.read(STDIN, len(GO)) != GO:
        raise SystemExit("the supervisor went before Patroni's moment")
    let_go_of_stdin()
    patroni.main()


def refuse_another_patroni(changes: Iterable[ModuleType]) -> None:
    """Raise SystemExit unless this Patroni is one that the changes were written for."""
    pins = importlib.import_module("openvcha.node.patroni.pins")
    try:
        pins.check(changes)
    except pins.OtherPatroniError as error:
        raise SystemExit(str(error)) from None


def let_go_of_stdin() -> None:
    """Put /dev/null in the place of the supervisor's pipe. Raises OSError."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, STDIN)
    os.close(null)


if __name__ == "__main__":
    main()

"""Which sessions of PostgreSQL have logged in, according to the titles of their processes.

TLS hides a login from the one who forwards it, but a server process shows its client's port and
what it does: ``postgres: app app 127.0.0.1(40112) idle``. If ``update_process_title`` is off, it
never shows more than that the session begins.
"""

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from openvcha.system.proc import PROC, read_uid

_PREFIX: Final = b"postgres: "
# The last port counts: the names of user and database, which precede it, are the client's choice.
_SESSION: Final = re.compile(rb".*\((\d{1,5})\) ([A-Za-z]+)", re.DOTALL)
_BEFORE_LOGIN: Final = frozenset((b"initializing", b"authentication"))


def logged_in_ports(proc: Path = PROC) -> frozenset[int]:
    """Return the ports from which clients have logged in to this account's PostgreSQL servers."""
    found = set()
    for entry in proc.iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            port = _logged_in_port((entry / "cmdline").read_bytes())
            # Any account can give a process such a title.
            if port is not None and read_uid(int(entry.name), proc) == os.geteuid():
                found.add(port)
    return frozenset(found)


def _logged_in_port(title: bytes) -> int | None:
    session = _SESSION.match(title) if title.startswith(_PREFIX) else None
    return None if session is None or session[2] in _BEFORE_LOGIN else int(session[1])

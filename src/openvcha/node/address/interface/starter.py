"""Starting the helper of a node that root runs without a service manager."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from openvcha.node.address.interface.helper_config import (
    DIRECTORY,
    MODULE,
    WITH_PARENT,
    UnusableConfigError,
    find_config,
    read_config,
)
from openvcha.system.accounts.terminal import passed_on
from openvcha.system.files.path_owners import CannotDropRoot

READY_SECONDS: Final = 20.0
PAUSE_SECONDS: Final = 0.02


class HelperNotStartedError(Exception):
    """The helper of the public address does not run; the text says why."""


def start_helper(
    node: Path,
    configs: Path = DIRECTORY,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> subprocess.Popen[bytes] | None:
    """Start the helper of the node in a directory, unless it runs, or the node needs none.

    It ends with this process. Return it once it serves. Raises HelperNotStartedError.
    """
    if os.geteuid() != 0:
        return None
    try:
        path = find_config(node, configs)
        where = read_config(path).socket if path else ""
    except (CannotDropRoot, OSError, UnusableConfigError) as error:
        raise HelperNotStartedError(f"the helper of the public address: {error}") from error
    if path is None or _serves(where):
        return None
    helper = subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE, WITH_PARENT, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        env=passed_on(os.environ),
        cwd="/",
    )
    end = clock() + READY_SECONDS
    while not _serves(where):
        if helper.poll() is not None:
            raise HelperNotStartedError("the helper of the public address has ended: see above")
        if clock() > end:
            helper.kill()
            raise HelperNotStartedError("the helper of the public address does not get ready")
        sleep(PAUSE_SECONDS)
    return helper


def _serves(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(1.0)
        try:
            caller.connect(path)
        except OSError:
            return False
    return True

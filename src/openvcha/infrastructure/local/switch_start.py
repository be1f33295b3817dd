"""Starting the switch of an infrastructure, detached from the program that needs it."""

import sys
from pathlib import Path
from typing import Final

from openvcha.infrastructure.local.processes import DetachedStarter, StartFailed
from openvcha.infrastructure.local.switch_client import SwitchUnavailable
from openvcha.infrastructure.local.switch_protocol import log_path

COMMAND: Final = (sys.executable, "-m", "openvcha.infrastructure.local.switch")


async def start_switch(root: Path) -> None:
    """Start the switch of a root; it ends at once if there is one. Raises SwitchUnavailable."""
    try:
        await DetachedStarter(COMMAND)(root, log_path(root))
    except StartFailed as error:
        raise SwitchUnavailable(str(error)) from error

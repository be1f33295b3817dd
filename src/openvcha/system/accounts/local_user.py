"""Who runs this program, for the audit."""

import os
import pwd
import re
from collections.abc import Mapping

TOLD = "SUDO_UID"
"""The variable in which sudo tells whose account called it; anybody can set it."""


def local_user(environment: Mapping[str, str] = os.environ) -> str:
    """Return the account that this process has, and in parentheses the one that SUDO_UID tells.

    No other variable counts: LOGNAME and USER say whatever the caller wants.
    """
    uid, told = os.getuid(), environment.get(TOLD, "")
    if not re.fullmatch("[0-9]{1,10}", told) or int(told) == uid:
        return account_name(uid)
    return f"{account_name(uid)} ({TOLD}: {account_name(int(told))})"


def account_name(uid: int) -> str:
    """Return the name of an account; its uid if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)

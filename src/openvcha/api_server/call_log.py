"""The log's lines about calls; those about refused strangers are bounded per second."""

import time
from collections.abc import Callable
from typing import Any, Final

from openvcha.api_server.token_bucket import TokenBucket
from openvcha.system.structlog_light import structlog

MAX_STRANGERS_PER_SECOND: Final = 10
"""Refused calls: a line costs the loop as much as the refusal itself."""
STRANGER_BURST: Final = 100


class CallLog:
    """The log of calls. ``monotonic`` returns the time in seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        # Bound once, instead of for each line, even those below the log level.
        self._log = structlog.get_logger("openvcha.api_server").bind()
        self._strangers = TokenBucket(MAX_STRANGERS_PER_SECOND, STRANGER_BURST, monotonic)
        self._left_out = 0

    def record(self, *, stranger: bool, changes: bool, result: str, **more: Any) -> None:
        """Write a line, at level info for ``changes`` and refusals (a ``result`` other than OK).

        Refusals of strangers beyond the bound are only counted, in the next line as ``left_out``.
        """
        refused = result != "OK"
        if refused and stranger:
            if self._strangers.delay() > 0:
                self._left_out += 1
                return
            self._strangers.take(1)
            if self._left_out:
                more["left_out"], self._left_out = self._left_out, 0
        write = self._log.info if changes or refused else self._log.debug
        write("call", result=result, **more)

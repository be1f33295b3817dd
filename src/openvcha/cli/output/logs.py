"""Logging of commands: only warnings and errors, on stderr.

By default structlog prints everything to stdout, unescaped: between lines that a program may parse,
and with control characters.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from openvcha.store.structlog_light import structlog


def log_to_stderr() -> None:
    """Log this process's warnings and errors to stderr, each on one line."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _say],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def _say(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    from openvcha.cli.output.plain import say  # noqa: PLC0415 - it imports typer

    text = event.pop("event", "")
    failure = event.pop("exc_info", None)
    error = sys.exception() if failure is True else failure
    details = [f"{name}={value}" for name, value in event.items()]
    if isinstance(error, BaseException):
        details.append(f"{type(error).__name__}: {error}")
    say(f"vcha: {text}" + (f" ({', '.join(details)})" if details else ""), err=True)
    raise structlog.DropEvent

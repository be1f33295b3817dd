"""Logging of commands: only warnings and errors, on stderr, each on one line.

By default structlog prints everything to stdout, unescaped: between lines that a program may parse,
and with control characters. Python prints libraries' logs, warnings and exceptions that reach
nobody to stderr, unescaped too: they may quote a server.
"""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final

from openvcha.system.structlog_light import structlog

TRACEBACK: Final = "OPENVCHA_TRACEBACK"


def log_to_stderr(*, tracebacks: bool = False) -> None:
    """Log this process's warnings and errors to stderr, and what Python itself reports."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _say],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    print_python_errors(tracebacks=tracebacks or bool(os.environ.get(TRACEBACK)))


def print_python_errors(*, tracebacks: bool) -> None:
    """Print libraries' logs, warnings and exceptions that reach nobody to stderr, as text.

    Each is one line; with ``tracebacks``, an exception's traceback follows.
    """
    hooks = _Hooks(tracebacks)
    for handler in list(logging.root.handlers):
        if isinstance(handler, _Hooks):
            logging.root.removeHandler(handler)
    logging.root.addHandler(hooks)
    logging.captureWarnings(True)
    sys.excepthook = hooks.uncaught
    sys.unraisablehook = hooks.unraisable
    threading.excepthook = hooks.in_thread


class _Hooks(logging.Handler):
    """What Python calls instead of printing."""

    def __init__(self, tracebacks: bool) -> None:
        super().__init__(logging.WARNING)
        self._tracebacks = tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        """Print a library's log record, or a warning."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            text = str(record.msg)  # the arguments do not fit; `handleError` would print them
        self._print(text.strip(), record.exc_info[1] if record.exc_info else None)

    def uncaught(
        self, _: type[BaseException], error: BaseException, __: TracebackType | None
    ) -> None:
        """Print the exception that ends the program, always with its traceback."""
        from openvcha.cli.output.plain import say_traceback  # noqa: PLC0415 - it imports typer

        say_traceback(error)

    def unraisable(self, found: "sys.UnraisableHookArgs") -> None:
        """Print an exception that cannot be raised, such as a destructor's."""
        where = getattr(found.object, "__qualname__", type(found.object).__name__)
        self._print(f"{found.err_msg or 'exception ignored in'}: {where}", found.exc_value)

    def in_thread(self, found: threading.ExceptHookArgs) -> None:
        """Print the exception that has ended a thread."""
        name = found.thread.name if found.thread else "?"
        if found.exc_type is not SystemExit:
            self._print(f"thread {name} failed", found.exc_value)

    def _print(self, text: str, error: BaseException | None) -> None:
        from openvcha.cli.output.plain import say, say_traceback  # noqa: PLC0415 - as above

        detail = f" ({type(error).__name__}: {error})" if error else ""
        with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
            say(f"vcha: {text}{detail}", err=True)
            if error and self._tracebacks:
                say_traceback(error)


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

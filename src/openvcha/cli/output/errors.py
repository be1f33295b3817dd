"""Errors for people: one line on stderr, and an exit code."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from openvcha.api.foreign_text import printable
from openvcha.cli.exit_codes import Code
from openvcha.cli.options import program
from openvcha.cli.output.logs import TRACEBACK
from openvcha.cli.output.plain import say, say_traceback
from openvcha.client.errors import CommandError, RequestRefused, ServerUnreachable
from openvcha.lab.errors import LabNotFound
from openvcha.node.engines import EngineMissing
from openvcha.node.process.lock import NodeRuns
from openvcha.node.process.process_tree import StillAlive
from openvcha.store.errors import StoreError
from openvcha.system.accounts.privileges import CannotDropRoot

_EXPECTED = (
    EngineMissing,
    CommandError,
    NodeRuns,
    RequestRefused,
    CannotDropRoot,
    StillAlive,
    StoreError,
    ServerUnreachable,
)


class ErrorReportingGroup(TyperGroup):
    """A group whose commands print errors as one line instead of a traceback."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the command line."""
        with reporting_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with reporting_errors():
            return super().invoke(ctx)


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Print an error of the block as one line on stderr, and exit with its code."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):
        raise fail("interrupted", Code.INTERRUPTED) from None
    except Exception as error:
        if _is_typers(error):
            _plain(error)
            raise
        if os.environ.get(TRACEBACK):
            say_traceback(error)
        raise fail(_text(error), _code(error)) from error


def fail(text: str, code: Code = Code.FAILED) -> typer.Exit:
    """Print an error, and return the exception to raise."""
    say(f"vcha: {text}", err=True)
    return typer.Exit(code)


def _is_typers(error: Exception) -> bool:
    # typer itself reports usage errors, and a closed pipe.
    if isinstance(error, OSError):
        return error.errno == errno.EPIPE
    return isinstance(error, typer.Exit) or hasattr(error, "format_message")


def _plain(error: Exception) -> None:
    """Make a usage error's text printable, since typer prints it unchanged."""
    if isinstance(said := getattr(error, "message", None), str):
        error.message = printable(said)  # type: ignore[attr-defined]  # a usage error's


def _text(error: Exception) -> str:
    if isinstance(error, _EXPECTED) or _is_refusal(error):
        return str(error).replace("`vcha ", f"`{program()} ")
    if isinstance(error, OSError):
        from openvcha.api.file_errors import file_refusal  # noqa: PLC0415 - as in ``_is_refusal``

        said = file_refusal(error)
        return said.default_message if said else str(error)
    kind = type(error).__name__
    return f"internal error: {kind}: {error} (set {TRACEBACK}=1 for a traceback)"


def _is_refusal(error: Exception) -> bool:
    """Return whether it is an ApiError; import it here, since that loads the whole contract."""
    from openvcha.api.errors import ApiError  # noqa: PLC0415 - see above

    return isinstance(error, ApiError)


def _code(error: Exception) -> Code:
    return Code.DOWN if isinstance(error, LabNotFound) else Code.FAILED

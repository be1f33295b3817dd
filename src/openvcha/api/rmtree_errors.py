"""Deletion of trees such that an error names the full path of its file."""

import sys
from types import TracebackType
from typing import Any, Final, NoReturn


def _with_its_path(_: Any, path: str, failure: tuple[Any, Any, TracebackType]) -> NoReturn:
    error = failure[1]
    raise type(error)(error.errno, error.strerror, path) from error


FULL_PATH_ERRORS: Final[dict[str, Any]] = (
    {} if sys.version_info >= (3, 12) else {"onerror": _with_its_path}
)
"""For ``shutil.rmtree``, which until 3.12 names only the last part of what it cannot delete."""

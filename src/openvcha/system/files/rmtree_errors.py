"""Deletion of directory trees, with errors that name the full path of the file."""

import sys
from types import TracebackType
from typing import Any, Final, NoReturn


def _with_its_path(_: Any, path: str, failure: tuple[Any, Any, TracebackType]) -> NoReturn:
    error = failure[1]
    raise type(error)(error.errno, error.strerror, path) from error


FULL_PATH_ERRORS: Final[dict[str, Any]] = (
    {} if sys.version_info >= (3, 12) else {"onerror": _with_its_path}
)
"""For ``shutil.rmtree``, whose errors name only the last part of the path before Python 3.12."""

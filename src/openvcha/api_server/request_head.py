"""What a request's head must not leave open: who asks, for what, and in which letters.

Of two sessions, or two actions, one program takes the first and another one the last. What is
read in two ways is refused before anybody reads it.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from openvcha.api.errors import ErrorType, fail
from openvcha.api.messages import message
from openvcha.api_server.auth.credentials import SESSION_HEADER
from openvcha.api_server.request import Request
from openvcha.api_server.routes import ACTION, LEGACY_ACTION, TASK

SINGLE: Final = (SESSION_HEADER, "authorization", "content-type", "content-encoding", "host")
"""Headers that come once at the most."""
_LONGEST_SHOWN: Final = 100


def require_clear(request: Request) -> None:
    """Look at the headers and the target. Raises ApiError INVALID_ARGUMENT."""
    if request.repeats:
        _require_once("the header %s", request.names, SINGLE)
    _require_utf_8("path", request.scope.get("raw_path") or b"")
    _require_utf_8("query", request.scope["query_string"])


def require_clear_verbs(request: Request) -> None:
    """Look at what chooses the operation in the query. Raises ApiError INVALID_ARGUMENT."""
    if not request.query:
        return
    names = [ACTION if name == LEGACY_ACTION else name for name, _ in request.query]
    _require_once("%s in the query", names, (ACTION, TASK))
    task = dict(request.query).get(TASK)
    if task is not None and task.lower() not in {"true", "false"}:
        fail(ErrorType.INVALID_ARGUMENT, message("request.flag", TASK, task[:_LONGEST_SHOWN]))


def _require_once(what: str, names: Iterable[str], single: Iterable[str]) -> None:
    counts = Counter(names)
    for name in single:
        if counts[name] > 1:
            fail(
                ErrorType.INVALID_ARGUMENT,
                message("request.repeated", what % name, counts[name]),
            )


def _require_utf_8(part: str, quoted: bytes) -> None:
    if b"%" not in quoted:
        return
    try:
        unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        fail(ErrorType.INVALID_ARGUMENT, message("request.target", part))

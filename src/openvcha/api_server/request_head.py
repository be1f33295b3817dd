"""Refusing ambiguous request heads: repeated credentials, actions or encodings.

Of two sessions, or two actions, one program takes the first and another the last. So an ambiguous
request is refused before it is processed.
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

SINGLETON_HEADERS: Final = (
    SESSION_HEADER,
    "authorization",
    "content-type",
    "content-encoding",
    "cookie",
    "host",
)
"""Headers that may appear at most once."""
_MAX_SHOWN: Final = 100


def require_unambiguous(request: Request) -> None:
    """Refuse ambiguous headers and targets. Raises ApiError INVALID_ARGUMENT."""
    if request.repeats:
        _require_once("the header %s", request.names, SINGLETON_HEADERS)
    if (cookie := request.headers.get("cookie")) is not None:
        names = (pair.partition("=")[0].strip() for pair in cookie.split(";"))
        _require_once("the cookie %s", names, (SESSION_HEADER,))
    _require_utf_8("path", request.scope.get("raw_path") or b"")
    _require_utf_8("query", request.scope["query_string"])


def require_unambiguous_verbs(request: Request) -> None:
    """Refuse a repeated choice of the operation in the query. Raises ApiError INVALID_ARGUMENT."""
    if not request.query:
        return
    names = [ACTION if name == LEGACY_ACTION else name for name, _ in request.query]
    _require_once("%s in the query", names, (ACTION, TASK))
    task = dict(request.query).get(TASK)
    if task is not None and task.lower() not in {"true", "false"}:
        fail(ErrorType.INVALID_ARGUMENT, message("request.flag", TASK, task[:_MAX_SHOWN]))


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

"""A text that is shown only on request."""

import hmac
from typing import NoReturn


class Secret:
    """A secret text: `repr`, `str` and `format` show `***`; `reveal()` returns the text.

    Comparison takes constant time. A secret cannot be pickled.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._text), _bytes(other._text))

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def reveal(value: object) -> str:
    """Encode a secret in plain text (msgspec's hook), for files that only their owner can read."""
    if isinstance(value, Secret):
        return value.reveal()
    # By this error a hook says that it does not know a type.
    raise NotImplementedError(f"cannot write {type(value).__name__}")


def conceal(kind: type, value: object) -> Secret:
    """Decode a secret that ``reveal`` encoded (msgspec's hook)."""
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise NotImplementedError(f"cannot read {kind.__name__}")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")

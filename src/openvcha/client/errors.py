"""Errors of a client; their texts are for users and say what to do."""

from typing import Any


class CommandError(Exception):
    """A command failed; the text says why and what to do."""


class RequestRefused(Exception):  # noqa: N818 - the server's answer, not a defect
    """The API responded with an error; ``body`` is the standard error structure."""

    def __init__(self, status: int, body: Any) -> None:
        self.status = status
        self.body = body
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """Return the error's type and all of its messages, for users."""
        if not isinstance(self.body, dict):
            return f"HTTP {self.status}"
        return error_text(self.body) or f"HTTP {self.status}"


class ServerUnreachable(Exception):  # noqa: N818 - an expected condition, not a defect
    """The API did not respond; the text says where and why."""


class ServerUntrusted(ServerUnreachable):
    """The server presented an untrusted certificate: retrying does not help."""


def error_text(body: dict[str, Any]) -> str:
    """Return a standard error for users: its type, its messages, a certificate's thumbprint."""
    messages = [m.get("default_message", "") for m in body.get("messages") or []]
    data = body.get("data")
    if isinstance(data, dict) and "ssl_thumbprint" in data:
        messages.append(f"The server presented thumbprint {data['ssl_thumbprint']}.")
    return ": ".join(filter(None, (body.get("error_type"), " ".join(messages))))

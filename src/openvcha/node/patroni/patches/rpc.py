"""Requests to etcd for which Patroni's client has no method, with that client's account.

A bare ``call_rpc`` uses the token of the last request. etcd replies "permission denied" if the
token is missing or expired: right after authentication is enabled, or after five minutes without
requests. Patroni's own methods then authenticate and retry; so does this.
"""

from typing import Any


def install_check(client: Any) -> None:
    """Raise AttributeError if Patroni's client is another version."""
    for needed in ("call_rpc", "handle_auth_errors"):
        getattr(client, needed)


def ask(client: Any, method: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return etcd's reply. Raises what Patroni's client raises."""
    return dict(client.handle_auth_errors(_call, method, fields))


def _call(client: Any, method: str, fields: dict[str, Any], *, retry: Any) -> Any:
    return client.call_rpc(method, fields, retry)

"""Asks etcd what Patroni's client has no method for, by the account that its methods show.

A bare ``call_rpc`` carries the token of the last request. etcd answers "permission denied" when the
token is missing or forgotten: right after the store has begun to ask for an account, or after five
minutes of silence. Patroni's own methods then show the account and ask again; so does this.
"""

from typing import Any


def install_check(client: Any) -> None:
    """Raise AttributeError where Patroni's client is another one."""
    for needed in ("call_rpc", "handle_auth_errors"):
        getattr(client, needed)


def ask(client: Any, method: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return etcd's answer. Raises what Patroni's client raises."""
    return dict(client.handle_auth_errors(_call, method, fields))


def _call(client: Any, method: str, fields: dict[str, Any], *, retry: Any) -> Any:
    return client.call_rpc(method, fields, retry)

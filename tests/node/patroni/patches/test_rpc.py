"""Requests that bypass Patroni's own methods authenticate as those do."""

from importlib import import_module
from typing import Any

import pytest

from openvcha.node.patroni.patches.rpc import ask, install_check


def client(*refusals: str) -> Any:
    """Return Patroni's own client of a simulated etcd, which refuses this often, then answers."""
    etcd3: Any = import_module("patroni.dcs.etcd3")
    left = list(refusals)

    class Client(etcd3.Etcd3Client):  # type: ignore[misc]  # Patroni ships no types
        def __init__(self) -> None:
            self.username, self.password = "data.1", "secret"
            self.shown = 0
            self._reauthenticate = False
            self._cluster_version = (3, 4, 23)
            self._token = None

        def authenticate(self, **_: Any) -> bool:
            self.shown += 1
            return True

        def call_rpc(self, method: str, fields: dict[str, Any], retry: None) -> dict[str, Any]:
            assert (method, fields, retry) == ("/kv/range", {"key": "Lw=="}, None)
            if left:
                raise getattr(etcd3, left.pop())
            return {"count": 1}

    return Client()


@pytest.mark.parametrize("refusal", ["PermissionDenied", "UserEmpty", "InvalidAuthToken"])
def test_the_account_is_shown_where_the_token_does_not_count(refusal: str) -> None:
    """On the first request after authentication was enabled, and the first after a long silence."""
    asking = client(refusal)
    assert ask(asking, "/kv/range", {"key": "Lw=="}) == {"count": 1}
    assert asking.shown == 1


def test_who_is_refused_with_it_too_is_told() -> None:
    """Retrying for ever would block Patroni's loop."""
    asking = client("PermissionDenied", "PermissionDenied")
    with pytest.raises(import_module("patroni.dcs.etcd3").PermissionDenied):
        ask(asking, "/kv/range", {"key": "Lw=="})


def test_patroni_has_what_is_used() -> None:
    """Another version is detected before it runs."""
    install_check(import_module("patroni.dcs.etcd3").PatroniEtcd3Client)
    with pytest.raises(AttributeError, match="call_rpc"):
        install_check(object)

"""A login to Patroni's REST API: whether Patroni goes by the configuration that was last written.

Patroni demands the password only for requests that change something. So the login removes a
setting that does not exist, which runs Patroni's loop and changes nothing.
"""

from base64 import b64encode
from typing import Final

from openvcha.api.secret import Secret
from openvcha.node.patroni.config import REST_USER
from openvcha.store import bounded_json
from openvcha.store.http.client import HttpError, Patience, TlsClient, TlsSource

SECONDS: Final = 2.0
_NO_CHANGE: Final = b'{"openvcha_wake": null}'
_OK: Final = 200


async def accepts_password(endpoint: str, tls: TlsSource, password: Secret) -> bool:
    """Return whether Patroni at a URL accepts the password, and reads the store."""
    token = b64encode(f"{REST_USER}:{password.reveal()}".encode()).decode()
    client = TlsClient(tls)
    try:
        reply = await client.request(
            "PATCH",
            f"{endpoint}/config",
            bounded_json.MAX_BYTES,
            Patience(SECONDS, SECONDS),
            content=_NO_CHANGE,
            headers={"Authorization": f"Basic {token}"},
        )
    except (HttpError, OSError):
        return False
    finally:
        await client.aclose()
    return reply.status == _OK

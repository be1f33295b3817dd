"""A password is checked against its stored verifier as PostgreSQL does."""

import pytest
from psycopg import pq

from openvcha.api.secret import Secret
from openvcha.node.postgres.scram import MAX_ITERATIONS, accepts

# RFC 7677's example: user, pencil.
PENCIL = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def test_the_example_of_the_standard() -> None:
    """An independent reference, not only our own round trip."""
    assert accepts(PENCIL, Secret("pencil"))
    assert not accepts(PENCIL, Secret("Pencil"))


def test_what_libpq_makes_is_accepted() -> None:
    """The cluster sets passwords this way."""
    made = pq.PGconn.connect_start(b"host=127.0.0.1 port=1").encrypt_password(
        b"super:\\user", b"postgres", b"scram-sha-256"
    )
    assert accepts(made.decode(), Secret("super:\\user"))


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        "pencil",
        "md5d41d8cd98f00b204e9800998ecf8427e",
        PENCIL.replace("4096", "x"),
        PENCIL.replace("4096", "-1"),
        PENCIL.replace("4096", str(MAX_ITERATIONS + 1)),
        PENCIL.replace("W22Z", "W2 2Z"),
        PENCIL.replace("SCRAM-SHA-256", "SCRAM-SHA-1"),
        PENCIL.replace("$", ":"),
    ],
)
def test_what_is_no_such_verifier_is_no_password_of_ours(stored: str | None) -> None:
    """It is set again then; an iteration count that takes minutes is not computed."""
    assert not accepts(stored, Secret("pencil"))

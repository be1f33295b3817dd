"""What a refused login shows about its cause."""

import pytest

from openvcha.node.postgres.refusals import refusal_cause
from openvcha.store.node_facts import RefusalCause


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("connection failed: server does not support SSL, but SSL was required", RefusalCause.TLS),
        ("connection failed: SSL error: tlsv1 alert protocol version", RefusalCause.TLS),
        ("FATAL:  connection requires a valid client certificate", RefusalCause.TLS),
        (
            'FATAL:  pg_hba.conf rejects connection for host "127.0.0.1", user "postgres"',
            RefusalCause.RULES,
        ),
        ('FATAL:  no pg_hba.conf entry for host "127.0.0.1"', RefusalCause.RULES),
        ("FATAL:  sorry, too many clients already", RefusalCause.FULL),
        ("FATAL:  remaining connection slots are reserved for roles with…", RefusalCause.FULL),
        (
            'FATAL:  password authentication failed for user "postgres@postgres"',
            RefusalCause.NAMESPACE,
        ),
        ('FATAL:  role "postgres" is not permitted to log in', RefusalCause.ROLE),
        ('FATAL:  password authentication failed for user "postgres"', RefusalCause.ROLE),
        ("etwas anderes", RefusalCause.ROLE),
    ],
)
def test_each_error_shows_its_cause(error: str, cause: RefusalCause) -> None:
    """What is unknown counts as a change of the role, which is the most frequent."""
    assert refusal_cause(error) is cause

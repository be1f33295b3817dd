"""schemathesis compares a simulated cluster's answers with what /openapi.json declares.

It is a separate program, with its own checks and those of ``judgement.py``. The requests are the
same in each run: a few examples of each operation. ``test_description_soak.py`` has more of them,
and two thousand boundary values; ``test_walk.py`` changes one part of each request.
"""

from tests.support.answers.beginnings import healthy
from tests.support.answers.description import by_session, hold
from tests.support.answers.stage import ServedClusters
from tests.support.edge import ADMINISTRATOR, PASSWORD

FEW = 4
EXAMPLES_ONLY = "--phases=fuzzing"


def test_every_operation_is_as_described(stages: ServedClusters) -> None:
    """With a session. The soak run adds other callers, and calls without a session.

    By default ``test_walk.py`` calls without a session, and ``test_each_error.py`` checks the
    refusal.
    """
    by_session(stages(healthy), ADMINISTRATOR, FEW, EXAMPLES_ONLY)


def test_sessions_are_as_described(stages: ServedClusters) -> None:
    """Created, shown and ended by name and password, and without credentials."""
    for auth in (["--auth", f"{ADMINISTRATOR}:{PASSWORD}"], []):
        hold(stages(healthy), FEW, "--include-path", "/session", *auth)

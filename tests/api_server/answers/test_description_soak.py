"""``test_description.py`` with more requests, boundary values, more callers, and more states."""

import pytest
from tests.support.answers.beginnings import failing_over, healthy, passive_lost, prepared, single
from tests.support.answers.description import by_session
from tests.support.answers.stage import Begin, ServedClusters
from tests.support.edge import ADMINISTRATOR, NOBODY, READER

MANY = 6
"""Examples of each operation, beside its boundary values; the default run takes four only."""
pytestmark = pytest.mark.soak


@pytest.mark.parametrize(
    ("who", "begin"),
    [
        (ADMINISTRATOR, healthy),
        (ADMINISTRATOR, passive_lost),
        (ADMINISTRATOR, prepared),
        (ADMINISTRATOR, failing_over),
        (READER, healthy),
        (NOBODY, single),
        ("", single),
    ],
)
def test_every_operation_is_as_described(stages: ServedClusters, who: str, begin: Begin) -> None:
    """For every caller, in every state of the cluster."""
    by_session(stages(begin), who, MANY)

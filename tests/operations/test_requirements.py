"""The common preconditions of every operation that changes the cluster."""

import pytest

from openvcha.api.errors import ApiError, ErrorType
from openvcha.api.messages import message
from openvcha.cluster.refusal import Persistence, Refusal
from openvcha.operations.preconditions import require_still
from openvcha.tasks.steps import TemporaryFailure

REASON = message("no.active")


@pytest.mark.parametrize("persistence", [Persistence.TRANSIENT, Persistence.MOMENTARY])
def test_a_step_waits_for_what_may_pass(persistence: Persistence) -> None:
    """A step has time."""
    with pytest.raises(TemporaryFailure) as caught:
        require_still(Refusal(REASON, persistence))
    assert caught.value.reason == REASON


@pytest.mark.parametrize(
    "kind", [ErrorType.NOT_ALLOWED_IN_CURRENT_STATE, ErrorType.ALREADY_IN_DESIRED_STATE]
)
def test_it_ends_by_what_does_not(kind: ErrorType) -> None:
    """With the error that the operation itself would have been refused with."""
    with pytest.raises(ApiError) as caught:
        require_still(Refusal(REASON, kind=kind))
    assert (caught.value.error_type, caught.value.messages) == (kind, (REASON,))


def test_nothing_refuses_it() -> None:
    """Then the step goes on."""
    require_still(None)


@pytest.mark.parametrize("value", Persistence)
def test_what_is_over_in_a_moment_passes_by_itself(value: Persistence) -> None:
    """The caller does not see it at once, and no task fails for it."""
    refusal = Refusal(REASON, value)
    assert refusal.transient or not refusal.momentary

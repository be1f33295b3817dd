"""A store member that keeps exiting is reported, with what to do."""

import msgspec

from openvcha.node.etcd.own_member import CALM_SECONDS, OwnMember
from openvcha.node.process.status import Contact, PartState, PartStatus

CONNECTED = Contact.CONNECTED
FIRST = PartStatus(name="etcd", state=PartState.RUNNING, restarts=4)


def after(ends: int) -> PartStatus:
    last = "killed by SIGABRT"
    return msgspec.structs.replace(FIRST, restarts=FIRST.restarts + ends, last_exit=last)


def test_one_that_ends_again_and_again_is_told_until_it_has_come_up() -> None:
    """It does not look broken between restarts, nor just after a start."""
    seen = OwnMember(FIRST)
    assert seen.note(FIRST, CONNECTED, 0) is None
    assert [seen.note(after(ends), CONNECTED, ends * 10) for ends in (1, 2)] == [None, None]
    text = str(seen.note(after(3), CONNECTED, 30))
    assert "killed by SIGABRT" in text
    assert "Redeploy this node" in text
    assert "only if the mode is ENABLED and the passive is in sync, power it off first" in text
    assert seen.note(after(3), CONNECTED, 30 + CALM_SECONDS - 1)
    assert seen.note(after(3), CONNECTED, 30 + CALM_SECONDS) is None


def test_one_that_ends_now_and_then_is_not_broken() -> None:
    """It is restarted, which is what that is for."""
    seen = OwnMember(FIRST)
    times = [CALM_SECONDS * ends for ends in range(1, 9)]
    notes = [seen.note(after(ends), CONNECTED, at) for ends, at in enumerate(times, 1)]
    assert notes == [None] * 8


def test_a_node_that_was_removed_or_has_no_majority_is_another_story() -> None:
    """Its member exits for its own reason."""
    for contact in (Contact.STARTING, Contact.ISOLATED):
        seen = OwnMember(FIRST)
        assert seen.note(after(9), contact, 1) is None

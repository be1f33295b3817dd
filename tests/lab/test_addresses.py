"""Each lab has its own addresses."""

import socket

import pytest

from openvcha.client.errors import CommandError
from openvcha.infrastructure.local.processes import address_answers
from openvcha.lab.addresses import (
    FIRST_OCTET,
    LAST_OCTET,
    VARIABLE,
    Answers,
    addresses,
    choose_octet,
    claim_octet,
    first_octet,
)


def _chosen(taken: set[int], answers: Answers) -> int:
    octet, claim = choose_octet(taken, answers)
    claim.close()
    return octet


def test_the_first_octet_that_no_lab_has_is_chosen() -> None:
    """Known labs keep their addresses, whether they run or not."""
    assert _chosen({FIRST_OCTET, FIRST_OCTET + 2}, lambda _: False) == FIRST_OCTET + 1


def test_a_lab_looks_from_where_it_is_told() -> None:
    """And wraps around: those before it are tried last."""
    last, claim = choose_octet((), lambda _: False, first=first_octet({VARIABLE: str(LAST_OCTET)}))
    claim.close()
    assert last == LAST_OCTET
    octet, claim = choose_octet({LAST_OCTET}, lambda _: False, first=LAST_OCTET)
    claim.close()
    assert octet < LAST_OCTET
    assert first_octet({}) == FIRST_OCTET


@pytest.mark.parametrize("wanted", ["", "82", "251", "x", "8" * 5000])
def test_a_setting_that_cannot_be_one_is_told(wanted: str) -> None:
    """The error quotes the setting, and says what is valid."""
    with pytest.raises(CommandError, match="from 83 to 250"):
        first_octet({VARIABLE: wanted})


def test_addresses_that_answer_are_somebody_elses() -> None:
    """A lab below another folder is not known, but its addresses answer."""
    used = {addresses(FIRST_OCTET)[0], addresses(FIRST_OCTET + 1)[3]}
    assert _chosen(set(), used.__contains__) == FIRST_OCTET + 2


def test_a_listening_program_is_met_for_real() -> None:
    """One port of one node is enough to leave the addresses to their owner."""
    with socket.create_server((addresses(LAST_OCTET)[2], 2379)):
        everything_else = set(range(FIRST_OCTET, LAST_OCTET))
        with pytest.raises(CommandError, match="no addresses are free"):
            _chosen(everything_else, address_answers)
    assert _chosen(everything_else, address_answers) == LAST_OCTET


def test_two_who_choose_at_once_get_different_addresses() -> None:
    """A choice is claimed until the nodes listen there."""
    first, claim = choose_octet(set(range(FIRST_OCTET, 200)), lambda _: False)
    try:
        assert claim_octet(first) is None
        assert _chosen(set(range(FIRST_OCTET, 200)), lambda _: False) > first
    finally:
        claim.close()
    again = claim_octet(first)
    assert again
    again.close()

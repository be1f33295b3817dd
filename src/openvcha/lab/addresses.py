"""The addresses of a lab, which has its own second octet of 127.x.y.z."""

import errno
import os
import socket
from collections.abc import Callable, Iterable, Mapping

import msgspec

from openvcha.client.errors import CommandError
from openvcha.infrastructure.local.processes import address_answers
from openvcha.lab.state import LabState
from openvcha.node.identity import Ports

FIRST_OCTET = 83
LAST_OCTET = 250
CLAIM_HOST = 254
VARIABLE = "OPENVCHA_LAB_OCTET"
"""Where the search starts, to stay clear of other labs whose nodes may all be off."""

Answers = Callable[[str], bool]
Claim = Callable[[int], socket.socket | None]


def first_octet(environment: Mapping[str, str] = os.environ) -> int:
    """Return the octet to try first. Raises CommandError for an invalid setting."""
    wanted = environment.get(VARIABLE, str(FIRST_OCTET))
    if wanted not in map(str, range(FIRST_OCTET, LAST_OCTET + 1)):
        raise CommandError(
            f"{VARIABLE} is {wanted[:20]!r}; it must be from {FIRST_OCTET} to {LAST_OCTET}"
        )
    return int(wanted)


def choose_octet(
    taken: Iterable[int],
    answers: Answers = address_answers,
    claim: "Claim | None" = None,
    first: int = FIRST_OCTET,
) -> tuple[int, socket.socket]:
    """Choose an octet that no known lab uses and where nothing responds.

    Return it with a socket that claims it against concurrent choices; keep the socket open until
    the lab runs. Raises CommandError if no octet is free.
    """
    known = frozenset(taken)
    for octet in (*range(first, LAST_OCTET + 1), *range(FIRST_OCTET, first)):
        if octet in known:
            continue
        held = (claim or claim_octet)(octet)
        if held is None:
            continue
        if not any(answers(address) for address in addresses(octet)):
            return octet, held
        held.close()
    numbers = ", ".join(map(str, msgspec.structs.astuple(Ports())))
    raise CommandError(
        f"no addresses are free in 127.{FIRST_OCTET}.0.0 to 127.{LAST_OCTET}.255.255:"
        f" probably a program listens on all addresses, on one of the ports {numbers} (`ss"
        " -ltn` shows it)"
    )


def claim_octet(octet: int) -> socket.socket | None:
    """Bind an address of this octet that no node uses; None if another process holds it."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.bind((f"127.{octet}.1.{CLAIM_HOST}", Ports().api))
    except OSError as error:
        holder.close()
        if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
            raise
        return None
    return holder


def addresses(octet: int) -> tuple[str, ...]:
    """Return all addresses of a lab: the public address and three HA addresses."""
    state = LabState(name="", octet=octet, cluster_id="")
    return state.public_address, *(state.ha_address(number) for number in (1, 2, 3))

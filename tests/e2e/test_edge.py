"""All attacks on the API at once, for a minute: what they must not cost, and the figures.

Latencies depend on what else the machine does: `./dev bench edge` measures those.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.administrator import Seen, work
from bench.edge import active_roles_lost
from bench.edge_attacks import Attacked, attacked
from bench.figures import distribution, distribution_header
from tests.support.lab.running_lab import AWAY_SECONDS, Rest, RunningLab
from tests.support.lab.writer import Writer

from openvcha.lab.state import ADMINISTRATOR

pytestmark = [pytest.mark.engines, pytest.mark.soak]

SECONDS = 60.0
ANSWERS = {
    "bodies": {"200 refused"},
    "log-ins": {"401", "503"},
    "reads": {"200", "503"},
    "idle": {},
}
"""What attackers may be told; their connections may end in any way."""
WAIT = {"read: 503", "log-in: 503"}
"""What is an answer also on a machine that does much else: come again."""


def test_all_attacks_at_once_cost_neither_the_lead_nor_a_row(
    running: RunningLab, writer: Writer
) -> None:
    """An administrator works meanwhile: each request and each login is answered."""
    active, nodes = running.name_of("ACTIVE"), data_nodes(running)
    before, host = active_roles_lost(nodes), running.lab.state().public_address
    own = ADMINISTRATOR, running.password()
    with attacked(host, running.reader.token, SECONDS) as attack:
        seen = asyncio.run(work(host, running.admin.token, own, SECONDS, patience=AWAY_SECONDS))
    sys.stdout.write("\n".join(figures(seen, attack, writer)))
    assert seen.reads
    assert set(seen.failures) <= WAIT
    for name, allowed in ANSWERS.items():
        assert attack.answers[name], f"{name} was no attack"
        assert {kind for kind in attack.answers[name] if kind[0].isdigit()} <= set(allowed)
    assert active_roles_lost(nodes) == before
    assert running.name_of("ACTIVE") == active
    Rest(running.api, running.lab.ca, *own).http.close()
    assert not writer.missing()


def figures(seen: Seen, attack: Attacked, writer: Writer) -> Iterator[str]:
    """Yield lines with every caller's figures; pytest shows them with ``-rP``."""
    yield distribution_header()
    for name, values in (("reads", seen.reads), ("new logins", seen.log_ins)):
        if values:
            yield distribution(f"attacked: {name} of an administrator", values)
    yield f"failures {dict(seen.failures)}; attacks {attack.answers}"
    yield f"longest gap at the database {writer.longest_gap:.2f} s"


def data_nodes(running: RunningLab) -> list[Path]:
    """Return the directories of the nodes that may become active."""
    return [running.directory(running.name_of(role)) for role in ("ACTIVE", "PASSIVE")]

"""All attacks on the API and the database at once, for a minute: what they must not cost.

Latencies depend on what else the machine does, so each is judged with a margin, and against the
same just before without attacks. `./dev bench edge` measures them.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from bench.administrator import Seen, work
from bench.edge import active_roles_lost
from bench.edge_attacks import FLOODER, FLOODER_PASSWORD, Attacked, attacked
from bench.figures import distribution, distribution_header
from tests.support.lab.running_lab import AWAY_SECONDS, NO_ACTIVE, Rest, RunningLab
from tests.support.lab.writer import Writer
from tests.support.waiting import until

from openvcha.lab.state import ADMINISTRATOR

pytestmark = [pytest.mark.engines, pytest.mark.soak]

SECONDS, QUIET_SECONDS = 60.0, 15.0
READ_SECONDS, LOG_IN_SECONDS, GAP_SECONDS = 0.5, 3.0, 0.5
"""What an administrator's read and new login, and the database without an acknowledged row, may
take where the cluster has two cores of its own."""
MARGIN = 4
"""Here nine processes of attackers share the cores with the cluster, as other programs do."""
TIMES_SLOWER = 10
"""The same on a machine on which even what is quiet takes long."""
ANSWERS = {
    "bodies": {"200 refused"},
    "log-ins": {"401", "503"},
    "reads": {"200", "503"},
    "idle": set(),
    "joins": {"400", "401", "403", "503"},
    "refused": {"403", "503"},
    "sessions": {"201", "401", "503"},
    "database idle": set(),
    "database log-ins": set(),
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
    add_flooder(running)

    def work_for(seconds: float) -> Seen:
        writer.longest_gap = 0.0
        return asyncio.run(work(host, running.admin.token, own, seconds, patience=AWAY_SECONDS))

    quiet, quiet_gap = work_for(QUIET_SECONDS), writer.longest_gap
    with attacked(host, running.reader.token, SECONDS) as attack:
        seen, gap = work_for(SECONDS), writer.longest_gap
    sys.stdout.write("\n".join(figures(seen, attack, gap)))
    for name, allowed in ANSWERS.items():
        assert attack.answers[name], f"{name} was no attack"
        assert {kind for kind in attack.answers[name] if kind[0].isdigit()} <= allowed, name
    assert attack.answers["database log-ins"]["asked"]
    assert set(seen.failures) <= WAIT
    assert seen.reads
    assert seen.log_ins
    assert active_roles_lost(nodes) == before
    # The connections that the attackers leave behind are of this address too, and come first.
    assert running.active_name() == active
    until(
        lambda: Rest(running.api, running.lab.ca, *own), AWAY_SECONDS, absent=NO_ACTIVE
    ).http.close()
    assert not writer.missing()
    # Of reads and logins the medians: single ones wait for a core, not for the cluster.
    assert median(seen.reads) <= limit(READ_SECONDS, median(quiet.reads))
    assert median(seen.log_ins) <= limit(LOG_IN_SECONDS, median(quiet.log_ins))
    assert gap <= limit(GAP_SECONDS, quiet_gap)


def limit(seconds: float, quiet: float) -> float:
    """Return the limit on this machine, where the same took ``quiet`` seconds without attacks."""
    return max(MARGIN * seconds, TIMES_SLOWER * quiet)


def add_flooder(running: RunningLab) -> None:
    """Add the user who begins session after session."""
    file = running.base / "flooder"
    file.write_text(FLOODER_PASSWORD)
    running.vcha("user", "add", FLOODER, "--role", "NoAccess", "--password-file", str(file))
    file.unlink()


def figures(seen: Seen, attack: Attacked, gap: float) -> Iterator[str]:
    """Yield lines with every caller's figures; pytest shows them with ``-rP``."""
    yield distribution_header()
    for name, values in (("reads", seen.reads), ("new logins", seen.log_ins)):
        if values:
            yield distribution(f"attacked: {name} of an administrator", values)
    yield f"failures {dict(seen.failures)}; attacks {attack.answers}"
    yield f"longest gap at the database {gap:.2f} s"


def data_nodes(running: RunningLab) -> list[Path]:
    """Return the directories of the nodes that may become active."""
    return [running.directory(running.name_of(role)) for role in ("ACTIVE", "PASSIVE")]

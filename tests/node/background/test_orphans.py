"""What a dead postmaster leaves behind is found and killed, and nothing else."""

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from openvcha.node.background.orphans import (
    OrphanReaper,
    living_postmaster,
    postmaster_died,
)
from openvcha.node.layout import Layout
from openvcha.node.process.process_tree import (
    Process,
    find_tree,
    orphaned,
    read_process,
    working_in,
)

INIT, SUPERVISOR, POSTMASTER, OTHER = 1, 2, 10, 20
HERE = frozenset({POSTMASTER, 11, 12, 13, 14})
BACKEND = "postgres: lab: app app 127.0.0.1(4711) idle"


def table(*more: Process) -> dict[int, Process]:
    common = [
        Process(INIT, 0, 1, ("init",)),
        Process(SUPERVISOR, 1, 2, ("python3", "-m", "openvcha", "node", "run", "/n")),
        Process(OTHER, 1, 3, ("postgres", "-D", "/elsewhere")),
        Process(21, OTHER, 4, (BACKEND,)),
    ]
    return {process.pid: process for process in (*common, *more)}


POSTGRES = Process(POSTMASTER, INIT, 5, ("postgres", "-D", "/n/pgdata"))


def orphans(*more: Process, here: frozenset[int] = HERE) -> list[int]:
    return sorted(process.pid for process in orphaned(table(*more), lambda pid: pid in here))


def test_children_of_a_living_postmaster_are_no_orphans() -> None:
    """While it is alive none of its processes is touched, whatever its title."""
    assert orphans(POSTGRES, Process(11, POSTMASTER, 6, (BACKEND,))) == []


@pytest.mark.parametrize("parent", [INIT, SUPERVISOR, 0])
def test_a_backend_whose_parent_works_elsewhere_is_one(parent: int) -> None:
    """Whichever process adopts it: the first process, or a subreaper."""
    assert orphans(Process(11, parent, 6, (BACKEND,))) == [11]


def test_an_orphan_is_known_beside_a_new_postmaster() -> None:
    """The next PostgreSQL may just be starting; its own children are left alone."""
    own = Process(12, POSTMASTER, 9, ("postgres: lab: startup recovering 0001",))
    assert orphans(POSTGRES, own, Process(11, INIT, 6, (BACKEND,))) == [11]


@pytest.mark.parametrize(
    "argv",
    [
        ("postgres", "-D", "/n/pgdata"),
        ("postgres", "--single", "-D", "/n/pgdata"),
        ("pg_rewind", "--target-pgdata=/n/pgdata"),
        ("postgres: lab: logger ",),
        ("sh", "-c", "archive"),
        (),
    ],
    ids=["postmaster", "single", "rewind", "logger", "its program", "kernel"],
)
def test_what_is_no_backend_is_left_alone(argv: tuple[str, ...]) -> None:
    """Only a process that holds shared memory without a postmaster is in the way."""
    assert orphans(Process(13, INIT, 6, argv)) == []


def test_a_backend_of_another_cluster_is_left_alone() -> None:
    """It has another working directory, or one that we may not read."""
    assert orphans(Process(15, INIT, 6, (BACKEND,))) == []


def test_where_a_process_works_is_asked_of_the_kernel(tmp_path: Path) -> None:
    """By the directory itself, also through a link to it; not by a similar name."""
    data, alike = tmp_path / "pgdata", tmp_path / "pgdata2"
    data.mkdir()
    alike.mkdir()
    (tmp_path / "link").symlink_to(data)
    with subprocess.Popen(["/bin/sleep", "60"], cwd=data) as sleeper:
        found = [working_in(path)(sleeper.pid) for path in (data, tmp_path / "link", alike)]
        sleeper.kill()
    assert found == [True, True, False]
    assert not working_in(data)(sleeper.pid)


@pytest.mark.parametrize(
    ("written", "died"),
    [
        (None, False),
        ("", False),
        ("nonsense\n", False),
        ("{self}\n/data\n", True),  # the id belongs to another program now
        ("999999999\n/data\n", True),
        ("-999999999\n/data\n", True),
    ],
)
def test_a_postmaster_that_ended_in_order_has_not_died(
    tmp_path: Path, written: str | None, died: bool
) -> None:
    """Its file is gone then; a file that names no process is a dead postmaster's."""
    if written is not None:
        (tmp_path / "postmaster.pid").write_text(written.format(self=os.getpid()))
    assert postmaster_died(tmp_path) is died


@pytest.mark.parametrize(("cwd", "died"), [("pgdata", False), ("elsewhere", True)])
def test_a_number_that_another_postgresql_has_now_is_no_living_postmaster(
    tmp_path: Path, cwd: str, died: bool
) -> None:
    """Each has its own data directory; several clusters on one machine are common."""
    for name in ("pgdata", "elsewhere"):
        (tmp_path / name).mkdir()
    argv = ["postgres", "60"]
    with subprocess.Popen(argv, executable="/bin/sleep", cwd=tmp_path / cwd) as other:
        (tmp_path / "pgdata" / "postmaster.pid").write_text(f"{other.pid}\n")
        found = postmaster_died(tmp_path / "pgdata")
        other.kill()
    assert found is died


class Events:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def warning(self, _: str, *, titles: list[str]) -> None:
        self.told.append(titles)


async def test_one_look_ends_nobody(tmp_path: Path) -> None:
    """A backend that exits by itself meanwhile is not killed, nor another process with its id."""
    looks = [
        [Process(11, 1, 6, (BACKEND,)), Process(12, 1, 7, (BACKEND,))],
        [Process(12, 1, 99, (BACKEND,))],
        [Process(12, 1, 99, (BACKEND,))],
        [],
    ]
    ended: list[int] = []
    events: Any = Events()
    watch = OrphanReaper(
        Layout(tmp_path),
        events,
        find=lambda _: looks.pop(0),
        end=lambda process: ended.append(process.started),
    )
    after = []
    for _ in range(4):
        await watch.run_once()
        after.append(list(ended))
    assert after == [[], [], [99], [99]]
    assert events.told == [[BACKEND]]


async def test_while_a_postmaster_lives_nothing_is_searched(tmp_path: Path) -> None:
    """Only the postmaster is checked; once it has died all others are, until none is left."""
    searched: list[Path] = []
    events: Any = Events()
    program = await asyncio.create_subprocess_exec("/bin/sleep", "60")
    watch = OrphanReaper(
        Layout(tmp_path),
        events,
        find=lambda pgdata: searched.append(pgdata) or [],  # type: ignore[func-returns-value]
        postmaster=lambda _: read_process(program.pid),
    )
    for _ in range(3):
        await watch.run_once()
    assert len(searched) == 1
    program.kill()
    await program.wait()
    for _ in range(3):
        await watch.run_once()
    assert len(searched) == 4


@pytest.mark.parametrize(("cwd", "lives"), [("pgdata", True), ("elsewhere", False)])
def test_the_living_postmaster_is_that_of_the_data(tmp_path: Path, cwd: str, lives: bool) -> None:
    """Another cluster's may have its id by now: then the search would never begin."""
    for name in ("pgdata", "elsewhere"):
        (tmp_path / name).mkdir()
    with subprocess.Popen(["postgres", "60"], executable="/bin/sleep", cwd=tmp_path / cwd) as one:
        (tmp_path / "pgdata" / "postmaster.pid").write_text(f"{one.pid}\n")
        found = living_postmaster(tmp_path / "pgdata")
        one.kill()
    assert (found is not None) is lives
    assert living_postmaster(tmp_path / "pgdata") is None


async def test_a_backend_without_postmaster_is_really_ended(tmp_path: Path) -> None:
    """A process with such a title, in the data directory and without a parent, is killed."""
    layout = Layout(tmp_path)
    layout.pgdata.mkdir()
    (layout.pgdata / "postmaster.pid").write_text("999999999\n")
    events: Any = Events()
    orphan = _backend(layout.pgdata)
    assert [process.pid for process in find_tree(tmp_path)] == [orphan]
    watching = asyncio.create_task(OrphanReaper(layout, events).run())
    async with asyncio.timeout(60):
        while read_process(orphan):  # noqa: ASYNC110 - it is another program's state
            await asyncio.sleep(0.05)
    watching.cancel()
    await asyncio.wait([watching])
    assert events.told == [["postgres: lab: app"]]


def _backend(pgdata: Path) -> int:
    """Start an orphan: its parent has exited. Return its process id."""
    script = "exec -a 'postgres: lab: app' sleep 60 >/dev/null & echo $!"
    shell = ["/bin/bash", "-c", script]
    found = subprocess.run(shell, cwd=pgdata, stdout=subprocess.PIPE, check=True, timeout=60)
    return int(found.stdout)

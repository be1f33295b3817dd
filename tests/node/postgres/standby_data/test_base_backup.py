"""The base backup: its reports, its retries, what it leaves."""

import asyncio
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from tests.support.node_files import equal_secrets

from openvcha.api.secret import Secret
from openvcha.node.engines import Postgres
from openvcha.node.layout import Layout
from openvcha.node.postgres.leader import BaseBackupFailed, Leader, parse_member_address
from openvcha.node.postgres.server import STANDBY_SIGNAL
from openvcha.node.postgres.standby_data.base_backup import BaseBackup, has_data
from openvcha.node.postgres.standby_data.pg_basebackup import (
    Progress,
    ServerError,
    backup_argv,
    backup_environment,
    is_temporary,
    parse_progress,
    pgpass_line,
    reason,
)
from openvcha.node.process.logs import RotatingLog, logger
from openvcha.node.process.spawn import OnLine, Running
from openvcha.store.base_backup_reports import BaseBackupReport, BaseBackupState, decode, encode

SECRETS = equal_secrets("pass:word\\")
POSTGRES = Postgres(Path("/usr/lib/postgresql/15/bin"), (15, 4), has_tls=True, source="system")
LEADER = Leader("first", "127.1.1.1", 5432, 1000, 15)


class Backup:
    """A stand-in for pg_basebackup: prints its lines, creates the directory, exits."""

    pid = 1

    def __init__(self, code: int | None) -> None:
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.signals: list[signal.Signals] = []
        if code is not None:
            self.ended.set_result(code)

    async def wait(self) -> int:
        return await self.ended

    def send(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if not self.ended.done():
            self.ended.set_result(-number)


class BaseBackupHarness:
    """A base backup with a simulated leader, programs, disk and time."""

    def __init__(self, directory: Path, *runs: tuple[int | None, bytes]) -> None:
        self.layout = Layout(directory)
        self.layout.make_directories()
        self.runs = list(runs)
        self.reports: list[BaseBackupReport] = []
        self.pauses: list[float] = []
        self.backups: list[Backup] = []
        self.secrets = SECRETS
        self.passwords: list[bytes] = []
        self.argv: list[str] = []
        self.environment: Mapping[str, str] = {}
        self.leaders: list[Leader | BaseBackupFailed] = []
        self.free = 1 << 40
        self.began = asyncio.Event()
        self.now = 0.0
        log = RotatingLog(directory / "log")
        self.step = BaseBackup(
            self.layout,
            POSTGRES,
            secrets=lambda: self.secrets,
            find_leader=self.find_leader,
            publish=self.reports.append,
            log=log,
            events=logger(log, "test"),
            environment={"PATH": "/bin", "PGHOST": "elsewhere"},
            start=self.start,
            clock=lambda: self.now,
            sleep=self.sleep,
            free_bytes=lambda _: self.free,
        )

    async def find_leader(self) -> Leader:
        found = self.leaders.pop(0) if self.leaders else LEADER
        if isinstance(found, BaseBackupFailed):
            raise found
        return found

    async def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        on_line: OnLine,
        stdin: int = -1,
    ) -> Running:
        del stdin
        assert not self.layout.incomplete_base_backup.exists()
        self.argv, self.environment = list(argv), environment
        self.passwords.append((self.layout.run / "copy.pgpass").read_bytes())
        code, output = self.runs.pop(0)
        self.layout.incomplete_base_backup.mkdir()
        (self.layout.incomplete_base_backup / "PG_VERSION").write_text("15")
        for line in output.splitlines():
            self.now += 1
            on_line(line)
        self.backups.append(Backup(code))
        self.began.set()
        return self.backups[-1]

    async def sleep(self, pause: float) -> None:
        self.pauses.append(pause)
        self.secrets = msgspec.structs.replace(SECRETS, replication=Secret("renewed"))


async def test_the_data_appear_only_when_they_are_complete(tmp_path: Path) -> None:
    """Success renames the data to their final path; the reports end with DONE and all bytes."""
    harness = BaseBackupHarness(
        tmp_path, (0, b" 100/400 kB (25%), 0/1 tablespace\n 300/400 kB (75%), x")
    )
    assert await harness.step.run()
    assert has_data(harness.layout)
    assert not harness.layout.incomplete_base_backup.exists()
    assert (harness.layout.pgdata / STANDBY_SIGNAL).exists(), (
        "started, it would be a second primary"
    )
    assert [report.state for report in harness.reports] == ["RUNNING", "RUNNING", "RUNNING", "DONE"]
    assert harness.reports[2].rate == 200 * 1024
    assert harness.reports[2].seconds_left == 0.5
    assert harness.reports[3].bytes_done == harness.reports[3].bytes_total == 400 * 1024


async def test_temporary_failures_are_tried_again(tmp_path: Path) -> None:
    """No leader, or a leader that goes away: reported, then retried after a pause, from zero."""
    harness = BaseBackupHarness(
        tmp_path, (1, b"pg_basebackup: error: connection refused"), (0, b"")
    )
    harness.leaders = [BaseBackupFailed("there is no leader", temporary=True)]
    assert await harness.step.run()
    failures = [report for report in harness.reports if report.state is BaseBackupState.FAILED]
    assert [failure.error for failure in failures] == [
        "there is no leader",
        "pg_basebackup: error: connection refused",
    ]
    assert all(failure.temporary for failure in failures)
    assert harness.pauses == [0.2, 0.4]
    assert [report.attempt for report in harness.reports] == [1, 2, 2, 3, 3]


async def test_a_refused_password_is_tried_again(tmp_path: Path) -> None:
    """The active restores what a user changed; or the node gets a new one meanwhile."""
    refused = b'FATAL:  password authentication failed for user "replicator"'
    harness = BaseBackupHarness(tmp_path, (1, refused), (0, b""))
    assert await harness.step.run()
    (failure,) = (each for each in harness.reports if each.state is BaseBackupState.FAILED)
    assert (failure.error, failure.temporary) == (refused.decode(), True)
    assert not ServerError("28P01", refused.decode()).final
    assert harness.passwords == [
        pgpass_line("replicator", SECRETS.replication.reveal()),
        pgpass_line("replicator", "renewed"),
    ]


@pytest.mark.parametrize(
    "output",
    [
        b"pg_basebackup: error: could not write: No space left on device",
        b"pg_basebackup: error: connection failed: FATAL:  no pg_hba.conf entry for replication",
    ],
)
async def test_hopeless_failures_are_final(tmp_path: Path, output: bytes) -> None:
    """What a retry cannot fix is reported as final, with its reason, and nothing is in place."""
    harness = BaseBackupHarness(tmp_path, (1, output))
    assert not await harness.step.run()
    assert harness.reports[-1].state is BaseBackupState.FAILED
    assert harness.reports[-1].error == output.decode()
    assert not harness.reports[-1].temporary
    assert not has_data(harness.layout)


def test_the_reason_is_the_error_not_what_follows_it() -> None:
    """After its error pg_basebackup reports its cleanup."""
    said = [
        b"pg_basebackup: error: could not send: ERROR:  all replication slots are in use",
        b"HINT:  Free one.",
        b'pg_basebackup: removing data directory "x"',
    ]
    assert "all replication slots are in use" in reason(said)
    assert reason([b"first", b"last"]) == "last"
    assert reason([]) == ""


async def test_the_disk_is_looked_at_before(tmp_path: Path) -> None:
    """Too little space is reported before anything is copied."""
    harness = BaseBackupHarness(tmp_path)
    harness.free = 1000
    assert not await harness.step.run()
    assert "1000 free" in (harness.reports[-1].error or "")


async def test_another_major_version_is_refused(tmp_path: Path) -> None:
    """Data of another major version cannot run, so they are not copied."""
    harness = BaseBackupHarness(tmp_path)
    harness.leaders = [Leader("first", "127.1.1.1", 5432, 1000, 16)]
    assert not await harness.step.run()
    assert harness.reports[-1].error == "the leader runs PostgreSQL 16, but this node has 15"


async def test_an_incomplete_base_backup_is_removed(tmp_path: Path) -> None:
    """The rest of an interrupted one does not get into the next one."""
    harness = BaseBackupHarness(tmp_path, (0, b""))
    harness.layout.incomplete_base_backup.mkdir()
    (harness.layout.incomplete_base_backup / "old").touch()
    assert await harness.step.run()
    assert not (harness.layout.pgdata / "old").exists()


async def test_stopping_ends_the_base_backup(tmp_path: Path) -> None:
    """A node that is stopped ends pg_basebackup and leaves nothing that looks like data."""
    harness = BaseBackupHarness(tmp_path, (None, b""))
    running = asyncio.create_task(harness.step.run())
    await harness.began.wait()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert harness.backups[0].signals[0] is signal.SIGTERM
    assert not has_data(harness.layout)
    assert not (harness.layout.run / "copy.pgpass").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_at_our_own_hands_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """An error of our own file operations ends a base backup with a reason, not the supervisor."""
    attempts: list[object] = []

    def full(*_: object) -> None:
        attempts.append(_)
        assert len(attempts) == 1
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("openvcha.node.postgres.standby_data.base_backup.write_private", full)
    harness = BaseBackupHarness(tmp_path)
    assert not await harness.step.run()
    assert os.strerror(code) in (harness.reports[-1].error or "")


async def test_no_password_is_in_arguments_or_environment(tmp_path: Path) -> None:
    """It is only in a file that is then deleted; others' settings do not reach the program."""
    harness = BaseBackupHarness(tmp_path, (0, b""))
    assert await harness.step.run()
    everything = [*harness.argv, *harness.environment, *harness.environment.values()]
    assert not any("word" in text and "pass:" in text for text in everything)
    assert "PGHOST" not in harness.environment
    assert harness.environment["PGSSLMODE"] == "verify-ca"
    assert "--checkpoint=fast" in harness.argv


def test_without_tls_libpq_gets_no_tls_settings(tmp_path: Path) -> None:
    """A libpq built without TLS refuses settings that request it."""
    plain = Postgres(Path("/x"), (18, 4), has_tls=False, source="embedded")
    settings = backup_environment(Layout(tmp_path), plain, tmp_path / "pgpass")
    assert not any(name.startswith("PGSSL") for name in settings)
    assert "--wal-method=stream" in backup_argv(plain, tmp_path, "h", 1, "u")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"  17306/30447 kB (56%), 0/1 tablespace (...copying/base/5/2619)", (17721, 31177)),
        (b"30458/30447 kB (100%), 1/1 tablespace", (31188, 31188)),
        (b"waiting for checkpoint", None),
        (b"pg_basebackup: error: 1/2 kB", None),
        (b"", None),
    ],
)
def test_progress_is_read(line: bytes, found: tuple[int, int] | None) -> None:
    """Bytes done and total; an underestimated total grows; other lines are ignored."""
    read = parse_progress(line)
    assert (tuple(part // 1000 for part in read) if read else None) == found


def test_progress_never_falls_and_the_rate_is_smooth() -> None:
    """One slow second changes the rate a little, not completely."""
    times = iter([0.0, 1.0, 2.0])
    progress = Progress(lambda: next(times), attempt=1)
    for done in (0, 1000, 1000):
        report = progress.read(b"%d/4000 kB (0%%), x" % done)
    assert report
    assert report.bytes_done == 1000 * 1024
    assert report.rate == pytest.approx(600 * 1024)
    assert report.seconds_left == pytest.approx(5)


def test_reports_survive_the_store() -> None:
    """They are decoded as they were encoded."""
    report = BaseBackupReport(state=BaseBackupState.FAILED, error="x", temporary=True, attempt=2)
    assert decode(encode(report)) == report


def test_the_password_file_is_escaped() -> None:
    """Colons and backslashes in a password do not end it."""
    assert pgpass_line("u", "a:b\\c") == b"*:*:*:u:a\\:b\\\\c\n"


def test_temporary_is_the_rule() -> None:
    """Only reasons known to be permanent are final."""
    assert is_temporary(b"server closed the connection unexpectedly")
    assert not is_temporary(b"certificate verify failed")


def test_the_leaders_place_is_read_from_patronis_record() -> None:
    """Host and port are in the connection URL, also for IPv6."""
    assert parse_member_address(b'{"conn_url":"postgres://127.1.1.1:5433/postgres"}') == (
        "127.1.1.1",
        5433,
    )
    assert parse_member_address(b'{"conn_url":"postgres://[fd00::1]:5432/postgres"}') == (
        "fd00::1",
        5432,
    )

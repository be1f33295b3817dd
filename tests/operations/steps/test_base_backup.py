"""The progress messages of a copy."""

from openvcha.operations.steps.base_backup import said, size
from openvcha.store.base_backup_reports import BaseBackupReport, BaseBackupState


def report(**values: float) -> BaseBackupReport:
    return BaseBackupReport(state=BaseBackupState.RUNNING, **values)  # type: ignore[arg-type]  # of the tests


def test_a_copy_is_said_in_bytes_rate_and_time_left() -> None:
    """Without a rate no remaining time is invented."""
    assert said(None, "n").default_message == "Waiting for n to start copying the data."
    begun = said(report(bytes_total=2_000_000), "n")
    assert begun.default_message == "Copying the data: 0 B of 2.0 MB."
    going = said(
        report(bytes_done=1_000_000, bytes_total=2_000_000, rate=5e5, seconds_left=2.0), "n"
    )
    assert going.default_message == "Copying the data: 1.0 MB of 2.0 MB, 500.0 kB/s, 2 s left."


def test_a_copy_that_failed_is_said_with_its_reason() -> None:
    """While it is retried: otherwise the wait would have no explanation."""
    failed = BaseBackupReport(
        state=BaseBackupState.FAILED, error="no slot", temporary=True, bytes_total=9
    )
    text = said(failed, "n").default_message
    assert text == "The copy to n failed and is being retried: no slot"


def test_sizes_are_written_in_powers_of_1000() -> None:
    """As disks are sold."""
    assert [size(n) for n in (0, 999, 1000, 2.5e9, 4e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.5 GB",
        "4000.0 TB",
    ]

"""pytest runs inside a test, with this project's hooks, on files that the test has written."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 120.0


def written(folder: Path, **files: str) -> None:
    """Write test modules, given by name, into a folder."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))


@contextmanager
def running(folder: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run pytest on a folder, with this project's hooks; its output goes to `log`."""
    # No other plugin: each takes seconds to import when the machine is busy.
    plugins = [word for name in ("xdist", "pytest_timeout", "conftest") for word in ("-p", name)]
    command = [sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider"]
    command += ["-c", os.devnull, f"--rootdir={folder}", f"--basetemp={folder / 'made'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment |= variables
    # A run inside a worker does not belong to that worker.
    for name in [name for name in environment if name.startswith("PYTEST_XDIST")]:
        del environment[name]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*command, *arguments, str(folder)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
            # A test run in the background ignores the signal, and this one would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread of ours holds a lock
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def ended(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run pytest in a folder to its end; return its exit code and its output."""
    with running(folder, *arguments, **variables) as process:
        code = process.wait(SECONDS)
    return code, (folder / "log").read_text()

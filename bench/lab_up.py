"""The time from nothing to HEALTHY: how long `vcha lab up` takes in an empty directory.

For comparison, the same run measures PostgreSQL alone: initdb and the first start of one server,
the minimum for any cluster. Usage: ./dev bench lab_up [RUNS]
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import header, machine, row

NAME = "bench"


def vcha(*arguments: str) -> None:
    """Run the command line; show its output only if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "openvcha", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)


def lab_up(base: Path) -> float:
    """Measure bringing up one lab from nothing, and take it down again."""
    where = ["--name", NAME, "--dir", str(base)]
    begun = time.monotonic()
    vcha("lab", "up", *where)
    taken = time.monotonic() - begun
    vcha("lab", "reset", "--yes", *where)
    return taken


def main(runs: int) -> None:
    """Measure and print."""
    print(machine())
    base = Path(tempfile.mkdtemp(prefix="openvcha-bench-"))
    try:
        taken = [lab_up(base) for _ in range(runs)]
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(header())
    print(row("lab up, three nodes, until HEALTHY", taken))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

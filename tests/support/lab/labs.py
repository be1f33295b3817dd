"""Labs with stand-in programs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.lab.state import Lab

NAME = "tried"


SECONDS = 600.0
POLL_SECONDS = 0.3
"""Most conditions are commands: work for the machine that they wait for."""


# As root, the commands drop privileges by re-executing, which a test's process cannot do.
ACTING = frozenset({"up", "down", "kill", "destroy", "reset", "demo"})


KILLED_AT = " %  "
"""In the first line of the deployment's progress, whichever step that is: steps are quick."""
LAB_OPTIONS = (
    "--leader-ttl=21",
    "--stuck-after=35",
    "--peers-after=6",
    "--lag-after=9",
)


@dataclass
class Labs:
    """A folder of labs, and how to call vcha for them."""

    base: Path
    name: str = NAME
    killed: str = ""
    again: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def lab(self) -> Lab:
        """Return the lab of this name."""
        return Lab(self.base / self.name)

    def start(self, *words: str, name: str = NAME) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "openvcha", *words, "--name", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )

    def run(self, *words: str, code: int = 0, stdin: str = "", name: str = NAME) -> str:
        """Run a command to its end, check its exit code, and return all its output."""
        if not set(words[:2]) & ACTING:
            return self.ask(*words, code=code, stdin=stdin, name=name)
        process = self.start(*words, name=name)
        out, _ = process.communicate(stdin, timeout=SECONDS)
        assert process.returncode == code, out
        return out

    def ask(self, *words: str, code: int | None = 0, stdin: str = "", name: str = NAME) -> str:
        """Run a command that needs no process of its own in this one; None allows any exit code."""
        line = [*words, "--name", name]
        done = CliRunner().invoke(app, line, prog_name="vcha", input=stdin, env=self.environment)
        assert code in (None, done.exit_code), done.output
        return done.output

    @property
    def state(self) -> str:
        """Return the lab's state in one word."""
        return str(json.loads(self.ask("lab", "status", "--json", code=None))["state"])

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; fail at the deadline with the lab's status."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, self.run("lab", "status", code=1)
            time.sleep(POLL_SECONDS)

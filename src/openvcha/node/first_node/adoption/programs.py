"""PostgreSQL's own programs on a data directory whose server is shut down.

None of them changes anything, except a session in single-user mode.
"""

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openvcha.node.process.spawn import engine_environment

SECONDS = 60.0
SESSION_SECONDS = 600.0
"""A session in single-user mode writes a checkpoint when it ends."""
LONGEST_ERROR = 500
_ROW = re.compile(r'^\t ?\d+: \w+ = "(.*)"\t\(typeid = ', re.MULTILINE)

Run = Callable[[Sequence[str], Mapping[str, str], bytes, float], "Done"]


class ProgramFailed(Exception):  # noqa: N818 - an expected condition, not a defect
    """One of PostgreSQL's programs failed; the text says which and why."""


@dataclass(frozen=True)
class Done:
    """A program that has ended: its exit code, output and errors."""

    code: int
    output: str
    errors: str


def run(argv: Sequence[str], environment: Mapping[str, str], given: bytes, seconds: float) -> Done:
    """Run a program with some input until it ends. Raises ProgramFailed."""
    try:
        done = subprocess.run(
            argv,
            input=given,
            env=dict(environment),
            capture_output=True,
            timeout=seconds,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramFailed(f"{argv[0]}: {error}") from error
    out, errors = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return Done(done.returncode, out, errors)


@dataclass(frozen=True)
class Programs:
    """The programs of one PostgreSQL installation; ``prefix`` starts each, as the node's account.

    ``settings_file`` is used instead of the data directory's own.
    """

    bin_dir: Path
    prefix: tuple[str, ...] = ()
    settings_file: str = ""
    start: Run = run
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def control(self, data: Path) -> dict[str, str]:
        """Return what pg_controldata prints, by name. Raises ProgramFailed."""
        lines = self._output(["pg_controldata", str(data)]).splitlines()
        pairs = (line.partition(":") for line in lines)
        return {name.strip(): value.strip() for name, colon, value in pairs if colon}

    def setting(self, data: Path, name: str) -> str | None:
        """Return the value of a setting; None if this version does not have it.

        Raises ProgramFailed if the settings cannot be read.
        """
        argv = ["postgres", "-D", str(data), "-C", name, *self._config()]
        done = self._run(argv, b"", SECONDS)
        if done.code == 0:
            return done.output.removesuffix("\n")
        if "unrecognized configuration parameter" in done.errors:
            return None
        raise ProgramFailed(_failure("postgres -C", done))

    def session(self, data: Path, statements: Sequence[str], database: str) -> list[str]:
        """Run statements in single-user mode, one per line; return the values that they print.

        The first error ends the session. Raises ProgramFailed.
        """
        quiet = {
            "exit_on_error": "on",
            "synchronous_standby_names": "",
            "default_transaction_read_only": "off",
            "event_triggers": "off",
            "log_statement": "none",
            "log_min_messages": "warning",
            "logging_collector": "off",
            "lc_messages": "C",
        }
        if self.setting(data, "event_triggers") is None:  # PostgreSQL 17 has it
            del quiet["event_triggers"]
        options = [part for each in quiet.items() for part in ("-c", "=".join(each))]
        argv = ["postgres", "--single", "-D", str(data), *options, *self._config(), database]
        done = self._run(
            argv, "".join(f"{each}\n" for each in statements).encode(), SESSION_SECONDS
        )
        if done.code != 0 or "FATAL:" in done.errors or "ERROR:" in done.errors:
            raise ProgramFailed(_failure("postgres --single", done))
        return _ROW.findall(done.output)

    def _config(self) -> list[str]:
        return ["-c", f"config_file={self.settings_file}"] if self.settings_file else []

    def _output(self, argv: Sequence[str]) -> str:
        done = self._run(argv, b"", SECONDS)
        if done.code != 0:
            raise ProgramFailed(_failure(argv[0], done))
        return done.output

    def _run(self, argv: Sequence[str], given: bytes, seconds: float) -> Done:
        program = str(self.bin_dir / argv[0])
        environment = engine_environment(self.environment, Path("/"))
        return self.start([*self.prefix, program, *argv[1:]], environment, given, seconds)


def _failure(program: str, done: Done) -> str:
    lines = [line for line in done.errors.splitlines() if "FATAL:" in line or "ERROR:" in line]
    said = " ".join(lines or done.errors.split("\n"))[:LONGEST_ERROR].strip()
    return f"{program} failed: {said or f'exit code {done.code}'}"

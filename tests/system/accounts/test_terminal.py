"""A program that becomes another account gets no terminal to type into."""

import errno
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.attackers.hostile_terminal import HOSTILE

from openvcha.api.foreign_text import is_visible
from openvcha.node.process.process_tree import read_process
from openvcha.system.accounts.terminal import PASSED_ON, passed_on

SECONDS = 60
GO_ON = """
import os, sys
from openvcha.system.accounts.terminal import exec_detached
os.dup2(2, 77, inheritable=True)
command = [sys.executable, "-c", sys.argv[1], *sys.argv[2:]]
exec_detached(command, lambda: os.environ.update(HOME="/changed"))
"""
# The child itself changes the account here: no account has to be able to read our Python.
THIEF = """
import fcntl, os, termios
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for name, work in {
    "TIOCSTI": lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"),
    "tty": lambda: os.open("/dev/tty", os.O_RDWR),
    "77": lambda: os.fstat(77),
}.items():
    try:
        work()
    except OSError as error:
        print(name, error.errno)
    else:
        print(name, "works")
print("HOME", os.environ["HOME"], "session", os.getsid(0) == os.getpid())
"""


class Shell:
    """A process that leads the session of a terminal, as root's shell does."""

    def __init__(self, *command: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            # A test run in the background ignores some signals, and the program would inherit that.
            for number in PASSED_ON:
                signal.signal(number, signal.SIG_DFL)
            os.execv(sys.executable, [sys.executable, *command])
        self.seen = ""

    def read(self, until: str | None = None) -> str:
        """Read the output, until a text appears or all processes have closed the terminal."""
        while until is None or until not in self.seen:
            assert select.select([self.master], [], [], SECONDS)[0], self.seen
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:  # the other end is closed
                break
            self.seen += data.decode()
        return self.seen

    def code(self) -> int:
        self.read()
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="it is root's terminal that others must not have")
def test_an_account_cannot_type_into_roots_terminal() -> None:
    """It has what it may read and write there, no session of that terminal, and no other file."""
    shell = Shell("-c", GO_ON, THIEF)
    lines = shell.read().replace("\r", "").splitlines()
    assert shell.code() == 0
    told = dict(line.split(" ", 1) for line in lines)
    assert told["TIOCSTI"] in {str(errno.EPERM), str(errno.EIO)}, lines  # EIO: for every account
    assert told["tty"] == str(errno.ENXIO)
    assert told["77"] == str(errno.EBADF)
    assert told["HOME"] == "/changed session True"


@pytest.mark.skipif(os.geteuid() != 0, reason="it is root's terminal that others must not have")
def test_the_thief_of_this_test_can_steal() -> None:
    """Without the new session it gets the terminal; where the kernel allows TIOCSTI, it types."""
    shell = Shell("-c", THIEF)
    lines = shell.read().replace("\r", "").splitlines()
    assert shell.code() == 0
    assert any(line.endswith("TIOCSTI works") or line == f"TIOCSTI {errno.EIO}" for line in lines)
    assert "tty works" in lines


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("pass", 0),
    ],
)
def test_who_waits_ends_as_the_program_does(program: str, code: int) -> None:
    """Scripts check the exit code."""
    assert Shell("-c", GO_ON, program).code() == code


CANNOT = """
import os
from openvcha.system.accounts.terminal import exec_detached

def change():
    raise OSError(2, os.environ["SAID"], os.environ["SAID"])

exec_detached(["/nowhere"], change)
"""


def test_why_it_cannot_go_on_is_one_line_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error may name a file of the account that the program was to become."""
    monkeypatch.setenv("SAID", HOSTILE.replace("\0", ""))
    shell = Shell("-c", CANNOT)
    shown = shell.read()
    assert shell.code() == 1
    assert shown.startswith("vcha: [Errno 2] SHOWN\\x1b[66;6H")
    assert shown.endswith("\r\n")
    assert [letter for letter in shown[:-2] if not is_visible(letter)] == []


WAITING = """
import signal, sys
def met(number, _):
    print("GOT", number, flush=True)
    raise SystemExit(number)
for number in (1, 2, 3, 15):
    signal.signal(number, met)
print("READY", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on(number: signal.Signals) -> None:
    """So that a service stops in order, and no node keeps running."""
    shell = Shell("-c", GO_ON, WAITING)
    shell.read("READY")
    os.kill(shell.pid, number)
    assert shell.code() == number
    assert f"GOT {number}" in shell.seen


def test_ctrl_c_reaches_the_program() -> None:
    """The terminal sends it to the waiting parent."""
    shell = Shell("-c", GO_ON, WAITING)
    shell.read("READY")
    os.write(shell.master, b"\x03")
    assert shell.code() == signal.SIGINT


def test_who_waits_is_no_process_of_the_node(tmp_path: Path) -> None:
    """It has a node's command line, but another account: it must not be killed as one."""
    shell = Shell("-c", GO_ON, WAITING, "openvcha", "node", "run", str(tmp_path))
    shell.read("READY")
    found = read_process(shell.pid)
    assert found is not None
    assert found.argv == ()
    os.kill(shell.pid, signal.SIGTERM)
    shell.code()


def test_without_a_terminal_the_program_takes_the_place() -> None:
    """A service's process id stays the one that its manager knows; no file of root's stays open."""
    program = """
import os
print(os.getpid(), os.environ["HOME"])
os.fstat(77)
"""
    done = subprocess.Popen(
        [sys.executable, "-c", GO_ON, program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out, said = done.communicate(timeout=SECONDS)
    assert out == f"{done.pid} /changed\n"
    assert "Bad file descriptor" in said


SHOW = "print(open('/proc/self/environ').read().replace(chr(0), chr(10)))"


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_secret_of_roots_environment_is_passed_on(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account can read the environment of its processes, for as long as a node runs."""
    monkeypatch.setenv("VAULT_TOKEN", "MARK")
    monkeypatch.setenv("PGPASSWORD", "MARK")
    monkeypatch.setenv("OPENVCHA_LABS", "/labs")
    monkeypatch.setenv("LC_TIME", "C")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.delenv("SUDO_UID", raising=False)
    if terminal:
        shell = Shell("-c", GO_ON, SHOW)
        assert shell.code() == 0
        shown = shell.seen
    else:
        shown = subprocess.run(
            [sys.executable, "-c", GO_ON, SHOW],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            check=True,
            timeout=SECONDS,
        ).stdout
    assert "MARK" not in shown
    lines = shown.split()
    expected = {"HOME=/changed", f"PATH={os.environ['PATH']}", "OPENVCHA_LABS=/labs", "LC_TIME=C"}
    assert expected | {"SUDO_UID=0"} <= set(lines)
    assert "LOGNAME" not in shown


def test_who_called_sudo_is_passed_on() -> None:
    """Root acts for that account, and so does the program."""
    assert passed_on({"SUDO_UID": "1000", "LOGNAME": "root"}) == {"SUDO_UID": "1000"}


TRIES = """
import sys
from openvcha.system.accounts.privileges import _succeeds
for words in sys.argv[1:]:
    print(words, _succeeds([sys.executable, "-c", words]))
"""


def test_trying_an_account_gives_it_nothing_of_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of that account lives long enough to be used by others of the account."""
    monkeypatch.setenv("VAULT_TOKEN", "MARK")
    shell = Shell(
        "-c",
        TRIES,
        "import os; os.environ['HOME']",
        "import os; os.environ['VAULT_TOKEN']",
        "import os; os.open('/dev/tty', os.O_RDWR)",
        "import os; os.ttyname(0)",
    )
    assert shell.code() == 0
    told = [line.rsplit(" ", 1)[1] for line in shell.seen.replace("\r", "").splitlines()]
    assert told == ["True", "False", "False", "False"]

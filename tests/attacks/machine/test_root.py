"""Root works on a directory that another account controls, and follows none of its traps."""

import ast
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from tests.support.node_files import identity

import openvcha.cli
from openvcha.node.identity import IDENTITY
from openvcha.node.layout import CA_CERTIFICATE, Layout
from openvcha.node.process.process_tree import kill_tree, read_process
from openvcha.node.process.status import NodeStatus
from openvcha.node.recovery.request import RecoveryRequest, RequestKind, write_request
from openvcha.node.security.certificates import new_authorities
from openvcha.system.accounts.privileges import own_command_line
from openvcha.system.files.durable import write_durably, write_private
from openvcha.system.files.path_owners import (
    CannotDropRoot,
    acting_as,
    controlling_uid,
    hand_over,
    opened,
)

ACCOUNT = pwd.getpwnam("nobody")
SECRET = "root:SECRET-OF-ROOT"
COMMAND_SECONDS = 60

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be tricked by links: run these tests as root"
)


@dataclass
class AccountFolders:
    """The account's home, and root's own folder with a file worth stealing."""

    home: Path
    roots: Path
    secret: Path

    def give(self, *paths: Path) -> None:
        """Make the account the owner of paths and everything below them."""
        for top in paths:
            below = [Path(at, name) for at, dirs, plain in os.walk(top) for name in dirs + plain]
            for path in (top, *below):
                os.chown(path, ACCOUNT.pw_uid, ACCOUNT.pw_gid, follow_symlinks=False)

    def assert_untouched(self) -> None:
        found = self.secret.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o600)
        assert self.secret.read_text() == SECRET
        assert list(self.roots.iterdir()) == [self.secret], "root made a file by a link"
        written = [path for path in self.home.rglob("*") if path.lstat().st_uid == 0]
        assert not written, "root wrote where another account controls the way"


@pytest.fixture
def folders() -> Iterator[AccountFolders]:
    top = Path(tempfile.mkdtemp(prefix="openvcha-root-", dir="/tmp"))
    try:
        top.chmod(0o755)
        home, roots = top / "home", top / "roots"
        home.mkdir()
        roots.mkdir(mode=0o700)
        secret = roots / "shadow"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        made = AccountFolders(home, roots, secret)
        made.give(home)
        yield made
    finally:
        shutil.rmtree(top)


def test_a_path_is_its_first_other_owners(folders: AccountFolders) -> None:
    """Directories and links count, in either direction; a missing path is its parent's owner's."""
    own, theirs = folders.roots, folders.home
    (theirs / "into-roots").symlink_to(own)
    (own / "into-theirs").symlink_to(theirs)
    (own / "plain").symlink_to("shadow")
    folders.give(theirs)
    for path, uid in {
        own: 0,
        own / "shadow": 0,
        own / "plain": 0,
        theirs: ACCOUNT.pw_uid,
        theirs / "missing": ACCOUNT.pw_uid,
        theirs / "into-roots" / "shadow": ACCOUNT.pw_uid,
        own / "into-theirs": ACCOUNT.pw_uid,
        own / "into-theirs" / "..": ACCOUNT.pw_uid,
    }.items():
        assert controlling_uid(path) == uid, path
    for path in (own / "missing" / "below", Path("/tmp") / "missing"):
        assert controlling_uid(path, may_be_missing=True) == 0
        with pytest.raises(FileNotFoundError, match=str(path)):
            controlling_uid(path)


def test_where_everybody_decides_root_does_nothing(folders: AccountFolders) -> None:
    """A directory in which others may rename, and links in a circle.

    With an access control list, the group's bits are those of any account that the list names.
    """
    open_ = folders.roots / "open"
    open_.mkdir()
    for mode, gid in ((0o777, 0), (0o775, ACCOUNT.pw_gid), (0o775, 0)):
        os.chown(open_, 0, gid)
        open_.chmod(mode)
        with pytest.raises(CannotDropRoot, match="chmod go-w"):
            controlling_uid(open_ / "node", may_be_missing=True)
    open_.chmod(0o1777)
    assert controlling_uid(open_ / "node", may_be_missing=True) == 0
    (folders.roots / "a").symlink_to("b")
    (folders.roots / "b").symlink_to("a")
    with pytest.raises(CannotDropRoot, match="links"):
        controlling_uid(folders.roots / "a")


def give(directory: Path) -> None:
    with opened(directory) as descriptor:
        hand_over(descriptor, directory, ACCOUNT.pw_uid, ACCOUNT.pw_gid)


def test_what_changes_hands_is_roots_alone(folders: AccountFolders) -> None:
    """Links are handed over as links; files with another hard link, or another owner, are not."""
    node = folders.roots / "node"
    (node / "tls").mkdir(parents=True)
    (node / "tls" / "node.key").write_text("x")
    (node / "link").symlink_to(folders.secret)
    give(node)
    owners = {path.name: path.lstat().st_uid for path in (node, *node.rglob("*"))}
    assert owners == dict.fromkeys(("node", "tls", "node.key", "link"), ACCOUNT.pw_uid)
    assert folders.secret.stat().st_uid == 0

    other = folders.roots / "other"
    other.mkdir()
    (other / "linked").hardlink_to(folders.secret)
    with pytest.raises(CannotDropRoot, match="another hard link"):
        give(other)
    assert folders.secret.stat().st_uid == 0
    (other / "linked").unlink()
    (other / "alien").write_text("x")
    os.chown(other / "alien", 1, 1)
    with pytest.raises(CannotDropRoot, match="another account"):
        give(other)


def test_what_has_changed_hands_is_not_looked_into_again(folders: AccountFolders) -> None:
    """Its owner may have changed it: a hard link, a directory swapped for a link."""
    node, link = folders.home / "node", folders.home / "link"
    (node / "swapped").mkdir(parents=True)
    folders.give(node)
    (node / "linked").hardlink_to(folders.secret)
    descriptor = os.open(node, os.O_RDONLY | os.O_DIRECTORY)
    try:
        hand_over(descriptor, node, ACCOUNT.pw_uid, ACCOUNT.pw_gid)
    finally:
        os.close(descriptor)
    (node / "linked").unlink()
    folders.assert_untouched()
    link.symlink_to(folders.roots)
    with pytest.raises(CannotDropRoot, match="other than root"):
        give(link)
    link.unlink()
    folders.assert_untouched()


@pytest.mark.parametrize("write", [write_durably, write_private])
def test_files_are_not_written_through_a_prepared_link(
    folders: AccountFolders, write: object
) -> None:
    """Neither under their own name nor under that of the temporary file."""
    assert callable(write)
    for name in ("file", ".file.new"):
        (folders.home / name).symlink_to(folders.secret)
    write(folders.home / "file", b"new")
    assert (folders.home / "file").read_bytes() == b"new"
    (folders.home / "file").unlink()
    folders.assert_untouched()


def node_of(folders: AccountFolders) -> Path:
    """Create a data node's directory as the account would, ready to be made stand-alone."""
    node = folders.home / "node"
    layout = Layout(node)
    authorities = new_authorities()
    for path in (node, node / "tls", layout.run, layout.logs, layout.etcd_data / "member"):
        path.mkdir(parents=True, exist_ok=True)
    layout.pgdata.mkdir(parents=True)
    (layout.pgdata / "PG_VERSION").write_text("15\n")
    own = identity("vcha-1", ha_address="127.0.0.1")
    (node / IDENTITY).write_bytes(msgspec.json.encode(own))
    (node / CA_CERTIFICATE).write_bytes(authorities.nodes.certificate)
    return node


TRAPS = (
    "node.json",
    "secrets.json",
    "lab.json",
    "passwords.json",
    "recovery.json",
    ".recovery.json.new",
    "members.json",
    "boot.json",
    "joining.json",
    "run/status.json",
    "run/supervisor.pid",
    "run/lock",
    "run/recovery.json",
    "run/recovery.lock",
    "logs/etcd.jsonl",
    "logs/console.log",
    "tls/ca.crt",
    "tls/node.key",
    "infrastructure/inventory.json",
    "infrastructure/inventory.lock",
)
NODE_COMMANDS = (
    "node run {node}",
    "node bootstrap {node}",
    "node service {node}",
    "node api {node}",
    "node status {node}",
    "node make-standalone --yes {node}",
    "node make-standalone --cancel {node}",
    "node promote --yes {node}",
    "node create {node} --join https://127.0.0.1:1 --role witness --ha-address 127.0.0.1",
    "node create {home}/new --join https://127.0.0.1:1 --role witness --ha-address 127.0.0.1",
    "node store list {node}",
    "node store accept --yes {node}",
    "user list --node {node}",
    "user add x --node {node}",
)
LAB_COMMANDS = (
    "lab status --dir {home} --name lab",
    "lab status --json --dir {home} --name lab",
    "lab logs active --dir {home} --name lab",
    "lab env --dir {home} --name lab",
    "lab directory active --dir {home} --name lab",
    "lab list --dir {home}",
    "lab down --dir {home} --name lab",
    "lab kill active --dir {home} --name lab",
    "lab destroy passive --dir {home} --name lab",
    "lab reset --yes --dir {home} --name lab",
    "lab up --active-only --dir {home} --name lab",
    "lab up --active-only --dir {home} --name new",
    "task list --dir {home} --name lab",
    "call cluster.get --dir {home} --name lab",
    "user list --dir {home} --name lab",
)


# Python and all modules are loaded once: a process per command would take minutes under load.
DRIVER = """
import os, sys
from openvcha.cli import main
from openvcha.cli.commands import call, events, task, user
from openvcha.cli.lab import commands
from openvcha.cli.node import commands, manual_join, programs, recovery, store
for words in sys.argv[1:]:
    print("==", words, flush=True)
    if os.fork() == 0:
        sys.argv = ["vcha", *words.split()]
        main.main()
    os.wait()
"""


def run(*commands: str) -> str:
    """Run commands as root, one after the other, and return all their output."""
    with tempfile.TemporaryFile("w+") as given:
        given.write("password-of-somebody\n")
        given.seek(0)
        done = subprocess.run(
            [sys.executable, "-P", "-c", DRIVER, *commands],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS * len(commands),
            cwd="/",
            check=False,
        )
    assert done.stdout.count("== ") == len(commands), done.stdout
    return done.stdout


def trapped(folders: AccountFolders, directory: Path, trap: str) -> None:
    """Replace one file with a link to root's file."""
    path = directory / trap
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(folders.secret if trap != ".recovery.json.new" else folders.roots / "made")


@pytest.mark.parametrize("traps", [TRAPS[4:], TRAPS])
def test_no_command_on_a_node_follows_a_link_as_root(
    folders: AccountFolders, traps: tuple[str, ...]
) -> None:
    """It prints, overwrites and hands over nothing of root's."""
    node = node_of(folders)
    for trap in traps:
        trapped(folders, node, trap)
    folders.give(folders.home)
    said = run(*(command.format(node=node, home=folders.home) for command in NODE_COMMANDS))
    assert "SECRET" not in said, said
    folders.assert_untouched()


def test_no_command_on_a_lab_follows_a_link_as_root(folders: AccountFolders) -> None:
    """Whichever of its files is a link."""
    lab = folders.home / "lab"
    lab.mkdir()
    for trap in TRAPS[2:]:
        trapped(folders, lab, trap)
    (lab / "lab.json").unlink()
    (lab / "lab.json").write_text('{"name": "lab", "octet": 77, "cluster_id": "c"}')
    folders.give(folders.home)
    said = run(*(command.format(home=folders.home) for command in LAB_COMMANDS))
    assert "SECRET" not in said, said
    folders.assert_untouched()


@pytest.mark.parametrize("user", [0, ACCOUNT.pw_uid])
def test_a_process_that_the_account_names_is_ended_only_if_its_own(
    folders: AccountFolders, user: int
) -> None:
    """A node's status says which process is its supervisor: one of root's, for example."""
    named = subprocess.Popen(["sleep", "600"], user=user)
    try:
        found = read_process(named.pid)
        assert found is not None
        lab = folders.home / "lab"
        layout = Layout(lab)
        layout.run.mkdir(parents=True)
        status = NodeStatus(member="m", kind="DATA", pid=found.pid, started=found.started)
        layout.status.write_bytes(msgspec.json.encode(status))
        folders.give(folders.home)
        kill_tree(lab)
        assert named.poll() is None if user == 0 else named.wait(60) == -signal.SIGKILL
        with acting_as(ACCOUNT.pw_uid, ACCOUNT.pw_gid):
            kill_tree(lab)
        assert named.poll() is None or user != 0
    finally:
        named.kill()
        named.wait()


def test_a_request_is_written_as_the_nodes_account(folders: AccountFolders) -> None:
    """So that a link in its place leads no further than the account itself could go."""
    node = node_of(folders)
    trapped(folders, node, ".recovery.json.new")
    folders.give(folders.home)
    with acting_as(ACCOUNT.pw_uid, ACCOUNT.pw_gid):
        write_request(Layout(node), RecoveryRequest(wish=RequestKind.RESTORE, id="1"))
    assert (node / "recovery.json").stat().st_uid == ACCOUNT.pw_uid
    assert os.geteuid() == 0
    folders.assert_untouched()


def test_no_module_of_the_folder_is_run_as_root(folders: AccountFolders) -> None:
    """The re-executed program is the installed one, whatever root's working directory is."""
    (folders.home / "openvcha.py").write_text("print('HIJACKED')")
    folders.give(folders.home)
    python, *rest = own_command_line()
    at = rest.index("openvcha") + 1
    done = subprocess.run(
        [python, *rest[:at], "--help"],
        cwd=folders.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "HIJACKED" not in done.stdout + done.stderr


def test_no_command_goes_past_the_question_who_controls_it() -> None:
    """Labs and nodes' directories are found by `cli.accounts` alone."""
    met = []
    for path in Path(openvcha.cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                met += [(path.stem, ast.unparse(node.func))]
    found = {(name, call) for name, call in met if call in {"folders.find", "absolute"}}
    assert found == {
        ("accounts", "folders.find"),
        ("accounts", "absolute"),
        ("running", "absolute"),  # after root was dropped
        ("programs", "absolute"),  # the same
    }

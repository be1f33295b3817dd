"""The functions that open files and hand them over: each guard alone, against well-timed links.

`test_root.py` runs whole commands; there, privileges are dropped before any of these is reached.
"""

import contextlib
import errno
import os
import pwd
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openvcha.cli import accounts
from openvcha.cli.node import programs
from openvcha.cli.running import NodeCannotRun, run_node
from openvcha.client.errors import CommandError
from openvcha.infrastructure.local.processes import DetachedStarter
from openvcha.lab.state import Lab
from openvcha.node.identity import IDENTITY
from openvcha.node.process import lock
from openvcha.node.process.logs import RotatingLog
from openvcha.system.accounts import privileges
from openvcha.system.files import locks
from openvcha.system.files.durable import write_durably, write_private
from openvcha.system.files.path_owners import CannotDropRoot, acting_as, hand_over, opened

ACCOUNT = pwd.getpwnam("nobody")
SECRET = "root:SECRET-OF-ROOT"
UNNAMED = 54321
"""A uid without an entry in passwd."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away: run as root")


def held(path: Path) -> None:
    with lock.lock_node(path):
        pass


def logged(path: Path) -> None:
    RotatingLog(path).write(b"line")


def locked(path: Path) -> None:
    with locks.locked(path):
        pass


def started(path: Path) -> None:
    DetachedStarter([sys.executable, "-c", "print('to the console')"])._start(path.parent, path)


@pytest.mark.parametrize("there", [True, False], ids=["a file", "no file"])
@pytest.mark.parametrize("work", [held, logged, locked, started])
def test_what_is_made_is_not_made_through_a_link(
    work: Callable[[Path], object], there: bool, tmp_path: Path
) -> None:
    """A lock, a log, the console: neither written to nor created where the link leads."""
    target, link = tmp_path / "target", tmp_path / "run" / "file"
    link.parent.mkdir()
    if there:
        target.write_text(SECRET)
    link.symlink_to(target)
    with pytest.raises(OSError, match="link") as caught:
        work(link)
    assert caught.value.errno == errno.ELOOP
    assert (target.read_text() if there else target.exists()) == (SECRET if there else False)


@pytest.mark.parametrize("write", [write_durably, write_private])
@pytest.mark.parametrize("trap", ["link", "dangling", "hard link", "file"])
def test_a_half_written_file_is_nobody_elses(
    write: Callable[[Path, bytes], None], trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process has it open before, whatever is placed there between check and open."""
    target, own = tmp_path / "target", tmp_path / "own"
    target.write_text(SECRET)
    opened: list[int] = []

    def set_trap(path: Path) -> None:
        if trap == "hard link":
            path.hardlink_to(target)
        elif trap == "file":
            opened.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
        else:
            path.symlink_to(target if trap == "link" else own)

    frees, freed = Path.unlink, []

    def unlink(path: Path, missing_ok: bool = False) -> None:
        frees(path, missing_ok=missing_ok)
        freed.append(path)
        if len(freed) == 1:
            set_trap(path)

    monkeypatch.setattr(Path, "unlink", unlink)
    write(tmp_path / "file", b"new secret")
    assert len(freed) == 2
    assert (tmp_path / "file").read_bytes() == b"new secret"
    assert target.read_text() == SECRET
    assert not own.exists()
    for descriptor in opened:
        assert os.pread(descriptor, 100, 0) == b""
        os.close(descriptor)


@pytest.fixture
def places() -> Iterator[tuple[Path, Path]]:
    """Yield a node's directory owned by root, and another folder of root's with a secret in it."""
    with tempfile.TemporaryDirectory(prefix="openvcha-links-", dir="/tmp") as top:
        Path(top).chmod(0o755)
        node, roots = Path(top, "node"), Path(top, "roots")
        (node / "tls").mkdir(parents=True)
        (node / "tls" / "node.key").write_text("x")
        (roots / "tls").mkdir(parents=True)
        (roots / "shadow").write_text(SECRET)
        (roots / "tls" / "node.key").write_text(SECRET)
        yield node, roots


def give(directory: Path) -> None:
    with opened(directory) as descriptor:
        hand_over(descriptor, directory, ACCOUNT.pw_uid, ACCOUNT.pw_gid)


def assert_roots(folder: Path) -> None:
    owners = {path.name: path.lstat().st_uid for path in (folder, *folder.rglob("*"))}
    assert set(owners.values()) == {0}, owners


@as_root
def test_links_change_hands_as_links(places: tuple[Path, Path]) -> None:
    """Links to a directory, to nothing, to another account's file: targets do not matter."""
    node, roots = places
    alien = roots.parent / "alien"
    alien.write_text("x")
    os.chown(alien, 1, 1)
    (node / "directory").symlink_to(roots)
    (node / "nothing").symlink_to(roots / "nothing")
    (node / "another's").symlink_to(alien)
    give(node)
    owners = {path.lstat().st_uid for path in (node, *node.rglob("*"))}
    assert owners == {ACCOUNT.pw_uid}
    assert_roots(roots)
    assert alien.stat().st_uid == 1


@as_root
def test_nobody_comes_in_while_a_directory_changes_hands(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed to others before its content is read again, to be given away."""
    node, _ = places
    node.chmod(0o777)
    listed, modes = os.listdir, []

    def looked(descriptor: int) -> list[str]:
        modes.append(stat.S_IMODE(node.stat().st_mode))
        return listed(descriptor)

    monkeypatch.setattr(os, "listdir", looked)
    descriptor = os.open(node, os.O_RDONLY | os.O_DIRECTORY)
    try:
        hand_over(descriptor, node, ACCOUNT.pw_uid, ACCOUNT.pw_gid)
    finally:
        os.close(descriptor)
    looks = len(modes) // 2
    assert modes == looks * [0o777] + looks * [0o700]
    assert looks > 0


@as_root
@pytest.mark.parametrize("swapped", ["tls", "."])
def test_a_directory_that_is_swapped_for_a_link_meanwhile_gives_nothing_away(
    places: tuple[Path, Path], swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that had it open can do so between reading the directory and working on it."""
    node, roots = places
    looked = os.stat
    done: list[Path] = []

    def look(path: Any, **how: Any) -> os.stat_result:
        found = looked(path, **how)
        if path == "tls" and not done:
            place = node / swapped if swapped != "." else node
            done.append(place.rename(node.parent / "moved"))
            place.symlink_to(roots / swapped)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", look)
        with contextlib.suppress(OSError):
            give(node)
    assert done
    assert_roots(roots)


@as_root
@pytest.mark.parametrize("last", ["shadow", "node.key"])
def test_a_file_that_is_swapped_for_a_link_meanwhile_gives_nothing_away(
    places: tuple[Path, Path], last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link itself changes owner."""
    node, roots = places
    looked = os.stat
    done: list[str] = []

    def look(path: Any, **how: Any) -> os.stat_result:
        found = looked(path, **how)
        if path == "node.key" and not done:
            done.append(path)
            (node / "tls" / path).unlink()
            (node / "tls" / path).symlink_to(roots / ("tls" if last == path else "") / last)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", look)
        give(node)
    assert done
    assert_roots(roots)


class Continued(Exception):  # noqa: N818 - no error
    """The program would continue as the account."""


@pytest.fixture
def stays_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise Continued where the program would become another account: the tests go on as root."""

    def continued(*_: object) -> None:
        raise Continued

    monkeypatch.setattr(privileges, "exec_detached", continued)


def no_matter(_: Path, *, changes_owner: bool) -> None:
    """Accept any directory."""


@as_root
@pytest.mark.usefixtures("stays_root")
@pytest.mark.parametrize("at_first", ["missing", "there"])
@pytest.mark.parametrize(
    "method", [privileges.SystemAccount(ACCOUNT.pw_name), privileges.UserNamespace()], ids=str
)
def test_a_link_made_while_an_account_is_chosen_gives_nothing_away(
    places: tuple[Path, Path],
    method: privileges.DropMethod,
    at_first: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trying the accounts takes a second, in which others may create links in a shared folder.

    In a user namespace the program would follow such a link: its files are root's.
    """
    _, roots = places
    shared = roots.parent / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    node = shared / "node"
    if at_first == "there":
        node.mkdir()

    def chosen(*_: object) -> privileges.DropMethod:
        if node.exists():
            node.rename(shared / "moved")
        node.symlink_to(roots)
        return method

    monkeypatch.setattr(privileges, "choose", chosen)
    with pytest.raises((CannotDropRoot, FileNotFoundError)):
        privileges.drop_root(["vcha"], node, no_matter)
    assert_roots(roots)


@as_root
@pytest.mark.usefixtures("stays_root")
def test_a_directory_of_roots_is_handed_over(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the path leads there through root's own links."""
    node, roots = places
    (node.parent / "link").symlink_to("node")
    monkeypatch.setattr(privileges, "choose", lambda *_: privileges.SystemAccount(ACCOUNT.pw_name))
    with pytest.raises(Continued):
        privileges.drop_root(["vcha"], node.parent / "link", no_matter)
    owners = {path.lstat().st_uid for path in (node, *node.rglob("*"))}
    assert owners == {ACCOUNT.pw_uid}
    assert_roots(roots)


def owned(directory: Path) -> dict[Path, tuple[int, int]]:
    """Return the owner and the mode of a directory and all below it."""
    found = {path: path.lstat() for path in (directory, *directory.rglob("*"))}
    return {path: (each.st_uid, each.st_mode) for path, each in found.items()}


@as_root
@pytest.mark.usefixtures("stays_root")
@pytest.mark.parametrize("identity", ["none", "a directory", "a link"])
@pytest.mark.parametrize("run", [programs.service, programs.api, run_node])
def test_a_directory_that_is_no_nodes_stays_as_it_is(
    run: Callable[[Path], None],
    identity: str,
    places: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A typing error may name any directory of root's, such as /etc."""
    other = places[1].parent / "etc"
    (other / "below").mkdir(parents=True)
    if identity == "a directory":
        (other / IDENTITY).mkdir()
    if identity == "a link":
        (other / IDENTITY).symlink_to(places[0] / IDENTITY)
    other.chmod(0o755)
    before = owned(other)
    monkeypatch.setattr(privileges, "choose", lambda *_: privileges.SystemAccount(ACCOUNT.pw_name))
    said = "cannot run the node" if (run, identity) == (run_node, "none") else "not a node's"
    with pytest.raises((CannotDropRoot, NodeCannotRun), match=said):
        run(other)
    assert owned(other) == before


@as_root
@pytest.mark.usefixtures("stays_root")
def test_a_lab_is_handed_over_only_if_it_is_one(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is a lab whose nodes run as root's: they could no longer open their files."""
    lab = places[1].parent / "labs" / "new"
    node = lab / "infrastructure" / "node"
    node.mkdir(parents=True)
    (node / IDENTITY).write_text("{}")
    before = owned(lab)
    monkeypatch.setattr(privileges, "choose", lambda *_: privileges.SystemAccount(ACCOUNT.pw_name))
    monkeypatch.setattr(accounts, "choose", lambda *_: privileges.UserNamespace())
    with pytest.raises(CommandError, match="not a lab's"):
        accounts.new_lab_as_owner("new", lab.parent)
    assert owned(lab) == before
    (lab / "lab.json").write_text("{}")
    argv = ["etcd", "-c", "read _", f"--data-dir={node / 'etcd'}"]
    with subprocess.Popen(argv, executable="/bin/sh", stdin=subprocess.PIPE) as running:
        with pytest.raises(CannotDropRoot, match=f"still run.*`kill {running.pid}`"):
            accounts.new_lab_as_owner("new", lab.parent)
        assert owned(lab).keys() - before.keys() == {lab / "lab.json"}
        assert {uid for uid, _ in owned(lab).values()} == {0}
    with pytest.raises(Continued):
        accounts.new_lab_as_owner("new", lab.parent)
    assert {uid for uid, _ in owned(lab).values()} == {ACCOUNT.pw_uid}


@as_root
@pytest.mark.parametrize("alien", ["linked", "foreign"])
def test_nothing_changes_hands_unless_all_may(places: tuple[Path, Path], alien: str) -> None:
    """What is refused may be deep below what would have been given before."""
    node, roots = places
    for name in ("a", "m", "z"):
        (node / name / "below").mkdir(parents=True)
        (node / name / "file").write_text("x")
    if alien == "linked":
        (node / "m" / "below" / "linked").hardlink_to(next(roots.iterdir()))
    else:
        os.chown(node / "m" / "file", UNNAMED, UNNAMED)
    node.chmod(0o755)
    before = owned(node)
    with opened(node) as descriptor, pytest.raises(CannotDropRoot, match="does not change"):
        hand_over(descriptor, node, ACCOUNT.pw_uid, ACCOUNT.pw_gid)
    assert owned(node) == before


@as_root
def test_a_missing_directory_in_a_shared_folder_is_nobodys(places: tuple[Path, Path]) -> None:
    """Whoever creates it next would control it, while root already works there."""
    shared = places[0].parent / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(FileNotFoundError, match="missing"):
        privileges.act_as_controller(["vcha"], shared / "missing")
    with pytest.raises(FileNotFoundError, match="missing"):
        privileges.act_as_controller(["vcha"], shared / "missing" / "below")


@as_root
@pytest.mark.usefixtures("stays_root")
def test_an_account_without_a_name_gets_no_group(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least of all that of its link's target, which may be root's."""
    node, roots = places
    link = node.parent / "link"
    link.symlink_to(roots)
    os.chown(link, UNNAMED, UNNAMED, follow_symlinks=False)
    monkeypatch.setattr(privileges, "_can_run", lambda *_: True)
    refused = f"account {UNNAMED} that controls {link} has no entry in passwd"
    with pytest.raises(CannotDropRoot, match=refused):
        privileges.act_as_controller(["vcha"], link)
    with pytest.raises(CannotDropRoot, match=refused), accounts.acting_as_controller(Lab(link)):
        pass


@as_root
def test_who_reads_a_lab_acts_in_its_accounts_own_group(places: tuple[Path, Path]) -> None:
    """The directory's group may be another, such as root's."""
    lab = places[0].parent / "lab"
    lab.mkdir()
    os.chown(lab, ACCOUNT.pw_uid, 0)
    with accounts.acting_as_controller(Lab(lab)):
        found = os.geteuid(), os.getegid()
    assert found == (ACCOUNT.pw_uid, ACCOUNT.pw_gid)


@as_root
@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize(
    "make",
    [
        lambda base: accounts.new_directory(base / "new"),
        lambda base: accounts.new_lab_as_owner("new", base),
    ],
    ids=["node", "lab"],
)
def test_no_directory_is_made_through_a_link_made_meanwhile(
    make: Callable[[Path], object],
    when: str,
    places: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A part of the path is missing in a shared folder, until another account creates it."""
    _, roots = places
    shared = roots.parent / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    base, makes, before = shared / "base", os.mkdir, sorted(roots.iterdir())

    def plant() -> None:
        if not os.path.lexists(base):
            base.symlink_to(roots)
            os.chown(base, ACCOUNT.pw_uid, ACCOUNT.pw_gid, follow_symlinks=False)

    def made(path: Any, *mode: int, **how: Any) -> None:
        plant()
        makes(path, *mode, **how)

    monkeypatch.setattr(accounts, "choose", lambda *_: privileges.UserNamespace())
    if when == "meanwhile":
        monkeypatch.setattr(os, "mkdir", made)
    else:
        monkeypatch.setattr(accounts, "act_as_controller", lambda *_, **__: plant())
    with contextlib.suppress(CannotDropRoot):
        make(base)
    assert base.is_symlink()
    assert sorted(roots.iterdir()) == before


@as_root
def test_missing_directories_are_roots(places: tuple[Path, Path]) -> None:
    """Only the last one is private: the account must be able to reach it."""
    base = places[0].parent / "base"
    before = os.umask(0)
    try:
        made = accounts.new_directory(base / "below" / "node")
        assert accounts.new_directory(made) == made
    finally:
        os.umask(before)
    found = [path.stat() for path in (base, base / "below", made)]
    assert [stat.S_IMODE(each.st_mode) for each in found] == [0o755, 0o755, 0o700]
    assert {each.st_uid for each in found} == {0}
    (base / "file").write_text("x")
    with pytest.raises(OSError, match="directory"):
        accounts.new_directory(base / "file")


def readable(folder: Path) -> list[str]:
    """Return which files this process can read."""
    found = []
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(PermissionError):
            path.read_text()
            found.append(path.name)
    return found


@pytest.fixture
def files() -> Iterator[Path]:
    """Create files readable by root, by root's group, by another group of root's, and by all."""
    with tempfile.TemporaryDirectory(prefix="openvcha-rights-", dir="/tmp") as top:
        folder = Path(top)
        folder.chmod(0o755)
        for name, group, mode in (
            ("of all", 0, 0o644),
            ("of the account", ACCOUNT.pw_gid, 0o640),
            ("of root", 0, 0o600),
            ("of root's group", 0, 0o640),
            ("of a further group", 4, 0o640),
        ):
            (folder / name).write_text(SECRET)
            os.chown(folder / name, 0, group)
            (folder / name).chmod(mode)
        before = os.getgroups()
        os.setgroups([0, 4])
        yield folder
        os.setgroups(before)


@as_root
def test_who_acts_as_an_account_has_its_rights_alone(files: Path) -> None:
    """No group of root's is left; afterwards everything is restored."""
    with acting_as(ACCOUNT.pw_uid, ACCOUNT.pw_gid):
        found = readable(files)
        assert os.getgroups() == []
    assert found == ["of all", "of the account"]
    assert (os.getresuid(), os.getresgid()) == ((0, 0, 0), (0, 0, 0))
    assert os.getgroups() == [0, 4]
    assert len(readable(files)) == 5


@as_root
def test_who_becomes_an_account_has_its_rights_alone(files: Path) -> None:
    """And cannot regain any others."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            privileges._become(ACCOUNT.pw_uid, ACCOUNT.pw_gid, "/")
            said = [*readable(files), *map(str, (*os.getresuid(), *os.getresgid()))]
            os.write(write, "\n".join([*said, str(os.getgroups())]).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as answer:
        found = answer.read().split("\n")
    ids = [str(ACCOUNT.pw_uid)] * 3 + [str(ACCOUNT.pw_gid)] * 3
    assert found == ["of all", "of the account", *ids, "[]"]

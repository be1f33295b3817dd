"""Whether a host is ready to run nodes, and what to type on it if it is not: pure.

The commands that a person types are those that an installation runs.
"""

import enum
import shlex
from collections.abc import Iterator, Sequence

import msgspec

from openvcha.api.prepared import prepare
from openvcha.infrastructure.hosts.firewall import closed_ports
from openvcha.infrastructure.hosts.survey import Clock, Listener, Survey, Version

MIN_PYTHON = (3, 11)
MIN_POSTGRES = (14,)
MIN_ETCD = (3, 5, 3)
OLDEST_ETCD = (3, 4)
"""The oldest that works: for clusters that accept what it lacks (`etcd.accept_old`)."""
CLOCK_WARNING = 0.5
CLOCK_LIMIT = 5.0
"""Seconds: certificates and tasks compare times of different hosts."""
MIN_FREE = 4 << 30
"""Bytes: for the store's database, its log, and PostgreSQL's."""
PORTS = {
    2379: "etcd",
    2380: "etcd",
    8008: "Patroni",
    5432: "PostgreSQL",
    8443: "the API",
    8444: "the API, for nodes that join",
}
DATASTORE = "/var/lib/openvcha"
HOME = "/usr/local/lib/openvcha"
"""The environment with openvcha, where each account can read it."""
WHEELS = "/usr/local/lib/openvcha-wheelhouse"
OLD_ETCD = ("debian 11", "debian 12", "ubuntu 20.04", "ubuntu 22.04")
"""Systems whose own etcd is too old."""
UNITS = {"etcd": "etcd-server", "postgresql": "postgresql"}
"""Debian's own units, which start with the packages and take our ports."""


class Verdict(enum.StrEnum):
    """The verdict of a finding. Only MISSING keeps nodes from running."""

    OK = "OK"
    WARNING = "WARNING"
    MISSING = "MISSING"
    UNKNOWN = "UNKNOWN"


class Finding(msgspec.Struct, frozen=True):
    """One finding: its subject, verdict and explanation, and what to type on the host."""

    subject: str
    verdict: Verdict
    text: str
    commands: tuple[str, ...] = ()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the host is to have: free space in a directory, and ports (number: what for).

    ``old_etcd``: the cluster accepts an etcd before 3.5.3 (its setting ``etcd.accept_old``).
    """

    datastore: str = DATASTORE
    ports: dict[int, str] = msgspec.field(default_factory=lambda: dict(PORTS))
    min_free: int = MIN_FREE
    old_etcd: bool = False


_WANTED = Wanted()


def check(survey: Survey, wanted: Wanted = _WANTED) -> list[Finding]:
    """Return a finding for everything that nodes need of a host."""
    return [
        _python(survey),
        _postgres(survey),
        _etcd(survey, old=wanted.old_etcd),
        _clock(survey.clock),
        *_units(survey),
        _ports(survey, wanted),
        _firewall(survey, wanted),
        _space(survey, wanted),
        _openvcha(survey),
        _account(survey),
    ]


def is_ready(findings: Sequence[Finding]) -> bool:
    """Return whether nothing is missing."""
    return all(finding.verdict is not Verdict.MISSING for finding in findings)


def commands(findings: Sequence[Finding]) -> list[str]:
    """Return what to type, in order; each command once, packages together and first."""
    typed = [command for finding in findings for command in finding.commands]
    packages = [each.removeprefix(_PACKAGE) for each in typed if each.startswith(_PACKAGE)]
    others = dict.fromkeys(each for each in typed if not each.startswith(_PACKAGE))
    return [*_install_packages(list(dict.fromkeys(packages))), *others]


_PACKAGE = "apt-get install "


def _install_packages(packages: Sequence[str]) -> Iterator[str]:
    if not packages:
        return
    if "postgresql" in packages:
        # Otherwise Debian creates a database cluster of its own, at our port.
        yield (
            "mkdir -p /etc/postgresql-common/createcluster.d && echo 'create_main_cluster = false'"
            " >/etc/postgresql-common/createcluster.d/openvcha.conf"
        )
    yield "apt-get update"
    names = shlex.join(packages)
    yield f"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {names}"
    started = [unit for unit, package in UNITS.items() if package in packages]
    if started:
        yield _disable(started)


def _disable(units: Sequence[str]) -> str:
    # Where systemd does not run, there is nothing to stop: then only the links go.
    names = " ".join(f"{unit}.service" for unit in units)
    return f"systemctl disable --now {names} || systemctl disable {names}"


def _python(survey: Survey) -> Finding:
    usable = [each for each in survey.pythons if each.version >= MIN_PYTHON]
    package = (f"{_PACKAGE}python3-venv",)
    if not usable:
        return Finding("python", Verdict.MISSING, f"no Python {_dotted(MIN_PYTHON)}", package)
    best = max(usable, key=lambda each: each.version)
    text = f"{_dotted(best.version)}, {best.path}"
    if not any(each.venv for each in usable):
        return Finding("python", Verdict.MISSING, f"{text}, lacks venv", package)
    return Finding("python", Verdict.OK, text)


def _postgres(survey: Survey) -> Finding:
    usable = [each for each in survey.postgres if each.version >= MIN_POSTGRES]
    if not usable:
        text = f"no PostgreSQL {_dotted(MIN_POSTGRES)} or newer"
        return Finding("postgresql", Verdict.MISSING, text, (f"{_PACKAGE}postgresql",))
    best = max(usable, key=lambda each: each.version)
    return Finding("postgresql", Verdict.OK, f"{_dotted(best.version)}, {best.path}")


_OWN_ETCD = "install a newer release in /usr/local/bin, or accept an old one (`--accept-old-etcd`)"


def _etcd(survey: Survey, *, old: bool) -> Finding:
    if survey.etcd is None:
        return _no_etcd(survey.system, old=old)
    text = f"{_dotted(survey.etcd.version)}, {survey.etcd.path}"
    if survey.etcd.version >= MIN_ETCD:
        return Finding("etcd", Verdict.OK, text)
    text += f", older than {_dotted(MIN_ETCD)}"
    if old and survey.etcd.version >= OLDEST_ETCD:
        return Finding("etcd", Verdict.WARNING, f"{text}, which the cluster must accept too")
    return Finding("etcd", Verdict.MISSING, f"{text}: {_OWN_ETCD}")


def _no_etcd(system: str, *, old: bool) -> Finding:
    least = OLDEST_ETCD if old else MIN_ETCD
    text = f"no etcd {_dotted(least)} or newer"
    if system in OLD_ETCD and not old:
        own = f"{text}, and this system has only older ones: {_OWN_ETCD}"
        return Finding("etcd", Verdict.MISSING, own)
    return Finding("etcd", Verdict.MISSING, text, (f"{_PACKAGE}etcd-server",))


def _clock(clock: Clock | None) -> Finding:
    if clock is None:
        return Finding("clock", Verdict.UNKNOWN, "the host did not report its time")
    apart = max(0.0, abs(clock.ahead) - clock.uncertainty)
    way = "ahead of" if clock.ahead > 0 else "behind"
    text = f"{abs(clock.ahead):.2f} s {way} this machine's (± {clock.uncertainty:.2f} s)"
    if apart > CLOCK_LIMIT:
        synchronize = ("timedatectl set-ntp true",)
        return Finding("clock", Verdict.MISSING, f"{text}: synchronize both clocks", synchronize)
    return Finding("clock", Verdict.WARNING if apart > CLOCK_WARNING else Verdict.OK, text)


def _units(survey: Survey) -> Iterator[Finding]:
    for unit in survey.units:
        on = unit.active in ("active", "activating") or unit.enabled in ("enabled", "static")
        if unit.name in UNITS and on:
            state = f"{unit.enabled}, {unit.active}"
            text = f"Debian's {unit.name}.service is {state}: it takes ports that a node needs"
            yield Finding("units", Verdict.MISSING, text, (_disable([unit.name]),))


def _ports(survey: Survey, wanted: Wanted) -> Finding:
    taken = [each for each in survey.listeners if each.port in wanted.ports]
    if not taken:
        free = ", ".join(map(str, sorted(wanted.ports)))
        return Finding("ports", Verdict.OK, f"TCP {free} are free")
    text = "; ".join(sorted({_taken(each, wanted.ports[each.port]) for each in taken}))
    # A node of ours may run there: only a person knows.
    verdict = Verdict.WARNING if survey.openvcha else Verdict.MISSING
    return Finding("ports", verdict, f"{text}: stop what listens there")


def _taken(listener: Listener, purpose: str) -> str:
    by = f" by {listener.program}" if listener.program else ""
    return f"TCP {listener.port} ({purpose}) is taken{by} at {listener.address}"


def _firewall(survey: Survey, wanted: Wanted) -> Finding:
    if not survey.firewall_readable:
        text = "only root can read its rules: use --sudo, or log in as root"
        return Finding("firewall", Verdict.UNKNOWN, text)
    closed = closed_ports(survey.nft, survey.iptables, sorted(wanted.ports))
    if not closed:
        return Finding("firewall", Verdict.OK, "no rule blocks the ports")
    listed = ", ".join(map(str, closed))
    text = f"a rule may block TCP {listed}: allow the addresses of the other hosts"
    return Finding("firewall", Verdict.WARNING, text)


def _space(survey: Survey, wanted: Wanted) -> Finding:
    free = survey.free.get(wanted.datastore)
    if free is None:
        return Finding("space", Verdict.UNKNOWN, f"{wanted.datastore}: the free space is unknown")
    text = f"{wanted.datastore}: {_gibibytes(free)} free"
    if free < wanted.min_free:
        need = f"{text}, but a node needs {_gibibytes(wanted.min_free)}"
        return Finding("space", Verdict.MISSING, need)
    return Finding("space", Verdict.OK, text)


def _openvcha(survey: Survey) -> Finding:
    if survey.openvcha:
        return Finding("openvcha", Verdict.OK, f"{survey.openvcha}, {HOME}")
    return Finding(
        "openvcha",
        Verdict.MISSING,
        f"not in {HOME}: copy a wheelhouse (`./dev wheelhouse`) to {WHEELS} first",
        (
            f"python3 -m venv {HOME}",
            f"{HOME}/bin/pip install --no-index -f {WHEELS} -r {WHEELS}/requirements.txt",
        ),
    )


def _account(survey: Survey) -> Finding:
    missing = [
        text
        for there, text in (
            (survey.account, "no account openvcha"),
            (survey.unit_file, "no unit openvcha-node@"),
        )
        if not there
    ]
    if not missing:
        return Finding("systemd", Verdict.OK, "the account openvcha and the unit openvcha-node@")
    command = f"{HOME}/bin/vcha systemd install --ssh"
    return Finding("systemd", Verdict.MISSING, ", ".join(missing), (command,))


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _gibibytes(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


prepare(__name__)

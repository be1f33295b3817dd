"""A look at a host, which changes nothing: the script that looks, and what it says, as values."""

import importlib.resources
import ipaddress
import re
import time
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import msgspec

from openvcha.api.prepared import prepare
from openvcha.infrastructure.hosts.commands import HostUnreachable, Runner, last_words, script

SCRIPT = (importlib.resources.files("openvcha.infrastructure.hosts") / "survey.sh").read_text()
SECONDS = 60.0
MAX_LINES = 10_000
MAX_LINE = 1000
KIB = 1024

Version = tuple[int, ...]


class Program(msgspec.Struct, frozen=True):
    """A program (of PostgreSQL: the directory of its programs) and its version."""

    path: str
    version: Version


class Python(Program, frozen=True):
    """A Python; ``venv``: it can make environments."""

    venv: bool = False


class Listener(msgspec.Struct, frozen=True):
    """A TCP port that is taken; ``program`` is empty if it is unknown."""

    port: int
    address: str
    program: str = ""


class Unit(msgspec.Struct, frozen=True):
    """A unit of systemd, as `is-enabled` and `is-active` call it."""

    name: str
    enabled: str
    active: str


class Clock(msgspec.Struct, frozen=True):
    """How far a host's clock is ahead of ours, in seconds, give or take ``uncertainty``."""

    ahead: float
    uncertainty: float


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What a host is like. ``free`` has the bytes that are free for each directory."""

    uid: int | None = None
    system: str = ""
    clock: Clock | None = None
    pythons: tuple[Python, ...] = ()
    postgres: tuple[Program, ...] = ()
    etcd: Program | None = None
    listeners: tuple[Listener, ...] = ()
    systemd_runs: bool = False
    units: tuple[Unit, ...] = ()
    firewall_readable: bool = False
    nft: tuple[str, ...] = ()
    iptables: tuple[str, ...] = ()
    free: dict[str, int] = {}
    openvcha: str = ""
    account: bool = False
    unit_file: bool = False


async def look(
    run: Runner,
    directories: Sequence[str],
    *,
    root: bool = False,
    clock: Callable[[], float] = time.time,
) -> Survey:
    """Look at a host; with ``root``, by sudo. Raises HostUnreachable."""
    before = clock()
    outcome = await run(script(SCRIPT, *directories, root=root), seconds=SECONDS)
    after = clock()
    lines = [line[:MAX_LINE] for line in outcome.output.splitlines()[:MAX_LINES]]
    if outcome.code != 0 or not any(line.startswith("end\t") for line in lines):
        raise HostUnreachable(f"the look at the host failed: {last_words(outcome)}")
    return read_survey(lines, before, after)


def read_survey(lines: Sequence[str], before: float, after: float) -> Survey:
    """Return what the script said between two times of our clock; ignore what makes no sense."""
    told: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition("\t")
        told.setdefault(name, []).append(value)

    def first(name: str) -> str:
        return next(iter(told.get(name, ())), "")

    uid = first("uid")
    return Survey(
        uid=int(uid) if uid.isdecimal() else None,
        system=first("os"),
        clock=_clock(first("now"), first("end"), before, after),
        pythons=tuple(filter(None, map(_python, told.get("python", ())))),
        postgres=tuple(filter(None, map(_program, told.get("postgresql", ())))),
        etcd=_program(first("etcd")),
        listeners=_listeners(told.get("listener", ()), told.get("socket", ())),
        systemd_runs="systemd" in told,
        units=tuple(filter(None, map(_unit, told.get("unit", ())))),
        firewall_readable="firewall" in told,
        nft=tuple(told.get("nft", ())),
        iptables=tuple(told.get("iptables", ())),
        free=dict(filter(None, map(_space, told.get("space", ())))),
        openvcha=first("openvcha"),
        account="account" in told,
        unit_file="unit_file" in told,
    )


def _clock(begun: str, ended: str, before: float, after: float) -> Clock | None:
    """Compare two clocks: the host looked at its own twice, between two looks at ours."""
    try:
        lowest, highest = float(ended) - after, float(begun) - before
    except ValueError:
        return None
    return Clock((lowest + highest) / 2, max(0.0, (highest - lowest) / 2))


def _version(text: str) -> Version | None:
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups() if part) if found else None


def _program(value: str) -> Program | None:
    path, _, said = value.partition(" ")
    version = _version(said)
    return Program(path, version) if version else None


def _python(value: str) -> Python | None:
    found = _program(value)
    return Python(found.path, found.version, value.endswith(" venv")) if found else None


def _unit(value: str) -> Unit | None:
    name, enabled, active, *_ = [*value.split(" "), "", "", ""]
    return Unit(name, enabled or "not-found", active or "unknown") if name else None


def _space(value: str) -> tuple[str, int] | None:
    kibibytes, _, directory = value.partition(" ")
    return (str(PurePosixPath(directory)), int(kibibytes) * KIB) if kibibytes.isdecimal() else None


def _listeners(taken: Sequence[str], sockets: Sequence[str]) -> tuple[Listener, ...]:
    """Return the ports that the kernel lists, with the programs that `ss` knows."""
    programs: dict[tuple[int, str], str] = {}
    for line in sockets:
        found = re.search(r"\s(\S+):(\d+)\s+\S+\s+users:\(\(\"([^\"]+)\"", line)
        if found:
            address = found[1].strip("[]").partition("%")[0].replace("*", "::")
            programs[int(found[2]), address] = found[3]
    places = dict.fromkeys(filter(None, map(_place, taken)))
    return tuple(
        Listener(port, address, programs.get((port, address), "")) for port, address in places
    )


def _place(value: str) -> tuple[int, str] | None:
    """Return the port and address of the kernel's form: 32-bit words, in the machine's order."""
    words, _, port = value.partition(":")
    try:
        raw = bytes.fromhex(words)
        packed = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
        address = ipaddress.ip_address(packed)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return int(port, 16), str(mapped or address)
    except ValueError:
        return None


prepare(__name__)

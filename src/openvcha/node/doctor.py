"""What this machine provides for a node: the engines, their limits, and dropping root."""

import enum
import os
import platform
from collections.abc import Callable, Mapping

import msgspec

from openvcha.api.prepared import prepare
from openvcha.node.engines import EngineMissing, EtcdProgram, Postgres, find_etcd, find_postgres
from openvcha.system.accounts.privileges import CannotDropRoot, describe_root_drop


class DoctorVerdict(enum.StrEnum):
    """The verdict of a finding."""

    OK = "OK"
    LAB_ONLY = "LAB_ONLY"
    MISSING = "MISSING"


class DoctorFinding(msgspec.Struct, frozen=True):
    """One finding: its subject, verdict and explanation."""

    subject: str
    verdict: DoctorVerdict
    text: str


def doctor(
    environment: Mapping[str, str] = os.environ, root: Callable[[], str] = describe_root_drop
) -> list[DoctorFinding]:
    """Return a finding for everything that a node needs."""
    return [
        DoctorFinding(
            "python", DoctorVerdict.OK, f"{platform.python_version()} on {platform.system()}"
        ),
        _found("postgresql", lambda: _postgres(find_postgres(environment))),
        _found("etcd", lambda: _etcd(find_etcd(environment))),
        _found("privileges", lambda: DoctorFinding("privileges", DoctorVerdict.OK, root())),
    ]


def _found(subject: str, check: Callable[[], DoctorFinding]) -> DoctorFinding:
    try:
        return check()
    except (EngineMissing, CannotDropRoot) as error:
        return DoctorFinding(subject, DoctorVerdict.MISSING, str(error))


def _postgres(found: Postgres) -> DoctorFinding:
    text = f"{_version(found.version)} ({found.source}), {found.bin_dir}"
    if found.has_tls:
        return DoctorFinding("postgresql", DoctorVerdict.OK, f"{text}, with TLS")
    lack = "built without TLS: passwords are safe (scram), but data on the wire are not encrypted"
    return DoctorFinding("postgresql", DoctorVerdict.LAB_ONLY, f"{text}; {lack}")


def _etcd(found: EtcdProgram) -> DoctorFinding:
    text = f"{_version(found.version)} ({found.source}), {found.path}"
    if not found.lab_only:
        return DoctorFinding("etcd", DoctorVerdict.OK, text)
    return DoctorFinding("etcd", DoctorVerdict.LAB_ONLY, f"{text}; {found.lab_only}")


def _version(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


prepare(__name__)

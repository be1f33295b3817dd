"""The cluster's roles in adopted data, made while no server runs.

Nobody can log in as the cluster yet, and the name of a superuser is unknown: a session in
single-user mode needs neither. The active's repair of the roles completes their rights later.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from openvcha.api.secret import Secret
from openvcha.node.first_node.adoption.programs import Programs
from openvcha.node.identity import Secrets
from openvcha.node.postgres.own_names import OWN_ROLES, SUPERUSER
from openvcha.node.postgres.own_roles import ATTRIBUTES, UNLIMITED, passwords
from openvcha.node.postgres.scram import METHOD

ITERATIONS: Final = 4096
"""PostgreSQL's default; the cluster's passwords are random and long."""
SALT_BYTES: Final = 16
TEMPLATE: Final = "template1"
"""A database that exists even if somebody has dropped `postgres`."""
_DATABASES = "select datname::text from pg_database where datname = 'postgres'"
_ROLES = "select rolname::text from pg_roles where rolname in ({})"
_SUPERUSERS = "select rolname::text from pg_roles where rolsuper and rolcanlogin"


def take_roles(data: Path, own: Secrets, programs: Programs) -> list[str]:
    """Create the cluster's roles, or give existing ones new passwords; idempotent.

    Return the names of the other superusers that can log in. Raises ProgramFailed.
    """
    names = ", ".join(f"'{role}'" for role in OWN_ROLES)
    known = programs.session(data, [_ROLES.format(names)], TEMPLATE)
    databases = programs.session(data, [_DATABASES], TEMPLATE)
    programs.session(data, statements(own, known, databases), TEMPLATE)
    found = programs.session(data, [_SUPERUSERS], TEMPLATE)
    return sorted(set(found) - {SUPERUSER})


def statements(own: Secrets, known: Sequence[str], databases: Sequence[str]) -> list[str]:
    """Return the statements, one per line; they contain verifiers, not passwords."""
    made = [f"create role {role}" for role in OWN_ROLES if role not in known]
    for role, password in passwords(own).items():
        attributes = f"{ATTRIBUTES[role]} {UNLIMITED}"
        made.append(f"alter role {role} {attributes} password '{verifier(password)}'")
    if not databases:
        made.append("create database postgres template template0")
    return made


def verifier(password: Secret, random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Return PostgreSQL's verifier of an ASCII password (SCRAM-SHA-256, RFC 5803)."""
    salt = random(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.reveal().encode(), salt, ITERATIONS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
    return f"{METHOD}${ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()

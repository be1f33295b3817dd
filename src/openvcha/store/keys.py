"""Every key name, in one place. A name ending in ``/`` is a prefix: everything below it."""

from typing import Final
from urllib.parse import quote

ROOT: Final = "/openvcha/"
CLUSTER: Final = ROOT + "cluster"
OPERATION: Final = ROOT + "operation"
RUNNER: Final = ROOT + "runner"
USERS: Final = ROOT + "users/"
SESSIONS: Final = ROOT + "sessions/"
TASKS: Final = ROOT + "tasks/"
NODES: Final = ROOT + "nodes/"
EVENTS: Final = ROOT + "events/"
EVENTS_MEMORY: Final = ROOT + "told"
AUDIT: Final = ROOT + "audit/"
AUDIT_LAST: Final = ROOT + "audit-last/"
JOINS: Final = ROOT + "joins/"
ROLL: Final = ROOT + "roll"
"""What each record of USERS and JOINS is, as data nodes have written it last."""
ROOM: Final = ROOT + "room"
"""Held by who defragments the store's members."""
ASIDE: Final = ROOT + "aside/"
REQUIRED_VOTES: Final = ROOT + "relied"
HEEDED: Final = ROOT + "heeded/"

PATRONI_NAMESPACE: Final = ROOT + "patroni/"
PATRONI_SCOPE: Final = "cluster"
PATRONI: Final = f"{PATRONI_NAMESPACE}{PATRONI_SCOPE}/"
PATRONI_CONFIG: Final = PATRONI + "config"
PATRONI_FAILOVER: Final = PATRONI + "failover"
PATRONI_FAILSAFE: Final = PATRONI + "failsafe"
PATRONI_INITIALIZE: Final = PATRONI + "initialize"
PATRONI_LEADER: Final = PATRONI + "leader"
PATRONI_MEMBERS: Final = PATRONI + "members/"
PATRONI_STATUS: Final = PATRONI + "status"
PATRONI_SYNC: Final = PATRONI + "sync"

# Settings in PATRONI_CONFIG that a mode is made of; one that is not there is off.
PAUSE: Final = "pause"
ALONE: Final = "openvcha_alone"
DETACHED: Final = "openvcha_detached"
SETTINGS: Final = (PAUSE, ALONE, DETACHED)

SEALED: Final = (CLUSTER, USERS, SESSIONS, TASKS, JOINS, ROLL, REQUIRED_VOTES, RUNNER, ROOM)
"""What only data nodes write, and says who may do what: each record carries a seal."""


def part(name: str) -> str:
    """Write a name as one part of a key, so that no name can reach into another's keys."""
    return quote(name, safe="@:+=")


def user(name: str) -> str:
    """Return the key of a user."""
    return USERS + part(name)


def session(token_hash: str) -> str:
    """Return the key of a session, by the hash of its token (hexadecimal)."""
    return SESSIONS + part(token_hash)


def task(task_id: str) -> str:
    """Return the key of a task."""
    return TASKS + part(task_id)


def node(member: str) -> str:
    """Return the prefix of all that one node reports."""
    return f"{NODES}{part(member)}/"


def node_copy(member: str) -> str:
    """Return the key under which a node reports the progress of its data copy."""
    return f"{node(member)}copy"


def node_facts(member: str) -> str:
    """Return the key under which a node tells what it alone knows of itself."""
    return f"{node(member)}facts"


def heeded(member: str) -> str:
    """Return the key of a node's confirmation which revision of REQUIRED_VOTES is on its disk."""
    return HEEDED + part(member)


def join(role: str) -> str:
    """Return the key of what is known of the token with which a node of this role may join."""
    return JOINS + part(role)


def patroni_member(name: str) -> str:
    """Return the key under which Patroni registers a member."""
    return PATRONI_MEMBERS + name

"""The names of all keys. A name ending in ``/`` is a prefix: all keys below it."""

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
BOOT_TOKENS: Final = JOINS + "boot/"
ROLL: Final = ROOT + "roll"
"""The newest state of each record of USERS and JOINS, as data nodes wrote it."""
DEFRAGMENTATION: Final = ROOT + "room"
"""Lock of the node that defragments the store's members."""
ASIDE: Final = ROOT + "aside/"
REQUIRED_VOTES: Final = ROOT + "relied"
REQUIRED_VOTES_CONFIRMED: Final = ROOT + "heeded/"
INVENTORY: Final = ROOT + "inventory"
SEEN_INVENTORY: Final = ROOT + "seen-inventory"
"""A copy of an inventory that not every node can read."""
OWED: Final = ROOT + "owed"
"""VMs of removed nodes that could not be deleted yet."""

PATRONI_NAMESPACE: Final = ROOT + "patroni/"
PATRONI_SCOPE: Final = "cluster"
PATRONI: Final = f"{PATRONI_NAMESPACE}{PATRONI_SCOPE}/"
PATRONI_CONFIG: Final = PATRONI + "config"
PATRONI_FAILOVER: Final = PATRONI + "failover"
PATRONI_FAILSAFE: Final = PATRONI + "failsafe"
PATRONI_HISTORY: Final = PATRONI + "history"
PATRONI_INITIALIZE: Final = PATRONI + "initialize"
PATRONI_LEADER: Final = PATRONI + "leader"
PATRONI_MEMBERS: Final = PATRONI + "members/"
PATRONI_STATUS: Final = PATRONI + "status"
PATRONI_SYNC: Final = PATRONI + "sync"

# The mode settings in PATRONI_CONFIG; a missing one is off.
PAUSE: Final = "pause"
ALONE: Final = "openvcha_alone"
DETACHED: Final = "openvcha_detached"
SETTINGS: Final = (PAUSE, ALONE, DETACHED)

SEALED: Final = (
    CLUSTER,
    USERS,
    SESSIONS,
    TASKS,
    JOINS,
    ROLL,
    REQUIRED_VOTES,
    INVENTORY,
    SEEN_INVENTORY,
    OWED,
    RUNNER,
    DEFRAGMENTATION,
)
"""Records that grant permissions: only data nodes write them, each with a seal."""


def part(name: str) -> str:
    """Quote a name as one part of a key, so that it cannot form another key."""
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
    """Return the prefix of all reports of a node."""
    return f"{NODES}{part(member)}/"


def base_backup_report(member: str) -> str:
    """Return the key under which a node reports the progress of its base backup."""
    return f"{node(member)}copy"


def node_facts(member: str) -> str:
    """Return the key under which a node reports its facts."""
    return f"{node(member)}facts"


def address_report(member: str) -> str:
    """Return the key under which a node that leads reports whether it holds the public address."""
    return f"{node(member)}address"


def required_votes_confirmed(member: str) -> str:
    """Return the key under which a node reports the revision of REQUIRED_VOTES on its disk."""
    return REQUIRED_VOTES_CONFIRMED + part(member)


def join_token(role: str) -> str:
    """Return the key of the join token for this role."""
    return JOINS + part(role)


def boot_token(role: str) -> str:
    """Return the key of the token with which a node that a task creates joins in this role."""
    return BOOT_TOKENS + part(role)


def patroni_member(name: str) -> str:
    """Return the key under which Patroni registers a member."""
    return PATRONI_MEMBERS + name

"""The table of settings: what each means, its unit, default and bounds.

The commented file, its checks, `vcha config` and docs/settings.md are made of it.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from openvcha.node.identity import (
    HOSTS,
    MAX_API_WORKERS,
    MAX_LEADER_TTL,
    MAX_SECONDS,
    MAX_STOPPED_STORE,
    MIN_LEADER_TTL,
    MIN_REPLICATION_LAG,
    MIN_STOPPED_STORE,
    MIN_STUCK_STANDBY,
    UNMANAGED,
    ApiSettings,
    Ports,
    SessionLimits,
    StoreLimits,
    Timers,
)
from openvcha.node.public_interface import (
    ADDRESS_LIFETIME,
    MAX_ADDRESS_LIFETIME,
    MIN_ADDRESS_LIFETIME,
)

Value = str | int | float
Values = Mapping[str, Value]
"""The value of each setting by its key, ``section.name``."""

LOWEST_PORT, HIGHEST_PORT = 1024, 65535
"""A node does not run as root, and so cannot listen on the ports below."""
LOWEST_QUOTA, HIGHEST_QUOTA = 64 << 20, 8 << 30
"""etcd's own advice ends at 8 GiB."""
LONGEST_TEXT = 1024
NO, YES = "no", "yes"
ENCODINGS = (
    *("UTF8", "SQL_ASCII", "EUC_CN", "EUC_JP", "EUC_JIS_2004", "EUC_KR", "EUC_TW", "KOI8R"),
    *("KOI8U", *(f"LATIN{number}" for number in range(1, 11))),
    *(f"ISO_8859_{number}" for number in range(5, 9)),
    *(f"WIN{number}" for number in (866, 874, *range(1250, 1259))),
)


class Form(enum.StrEnum):
    """The form of a text."""

    TEXT = "a text"
    NAME = "letters, digits, `.`, `_`, `-` and spaces, at most 80"
    ACCOUNT = "the name of an account"
    INTERFACE = "the name of a network interface"
    ADDRESS = "an IPv4 or IPv6 address without a prefix"
    NETWORKS = "networks such as 192.0.2.0/24, separated by commas"
    PATH = "an absolute path"
    LOCALE = "the name of a locale"


@dataclass(frozen=True)
class Setting:
    """One setting. Its type is that of ``default``; an empty text means that it is not set."""

    key: str
    default: Value
    text: str
    unit: str = ""
    low: float = 0
    high: float = 0
    form: Form = Form.TEXT
    choices: tuple[str, ...] = ()

    @property
    def section(self) -> str:
        """Return the name of its section."""
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        """Return its name in the section."""
        return self.key.partition(".")[2]

    @property
    def allowed(self) -> str:
        """Return what is allowed, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if isinstance(self.default, str):
            return self.form.value
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        unit = f" {self.unit}" if self.unit else ""
        return f"{kind} from {self.low:.12g} to {self.high:.12g}{unit}"


SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "node": "The first node, and the cluster that starts with it.",
        "network": "Its addresses. The prefix of each is a setting of its own.",
        "ports": "TCP ports. All nodes of a cluster use the same ones; no two may be equal.",
        "postgresql": "PostgreSQL's programs, and the database of the first node.",
        "etcd": "etcd's programs and the size of its database.",
        "timers": "How long the cluster waits before it acts or warns; the same on all nodes.",
        "sessions": "Sessions of the API.",
        "api": "The processes of the API.",
    }
)


def _port(name: str, default: int, text: str) -> Setting:
    return Setting(f"ports.{name}", default, text, low=LOWEST_PORT, high=HIGHEST_PORT)


def _address(of: str, what: str) -> tuple[Setting, ...]:
    return (
        Setting(f"network.{of}_address", "", what, form=Form.ADDRESS),
        Setting(
            f"network.{of}_prefix",
            0,
            f"The prefix length of {of}_address; 0 means that of the interface.",
            "bits",
            0,
            128,
        ),
        Setting(
            f"network.{of}_interface",
            "",
            f"The interface of {of}_address; if empty, the one that has it or its network.",
            form=Form.INTERFACE,
        ),
    )


_NODE = (
    Setting("node.name", "vcha-1", "The node's name, unique in its cluster.", form=Form.NAME),
    Setting("node.cluster", "openvcha", "The cluster's display name.", form=Form.NAME),
    Setting(
        "node.directory",
        "/var/lib/openvcha/nodes/vcha-1",
        "The node's directory, which `vcha init` creates. It holds everything that the node stores."
        " systemd runs the nodes in /var/lib/openvcha/nodes.",
        form=Form.PATH,
    ),
    Setting(
        "node.infrastructure",
        HOSTS,
        "How the other nodes are created. hosts: the data nodes create them on Linux machines, by"
        " SSH. none: an administrator creates each node. Used only when a cluster is created.",
        choices=(HOSTS, UNMANAGED),
    ),
    Setting(
        "node.user",
        "",
        "The account that runs the node; never root. If empty: the owner of adopted data, else the"
        " account openvcha if it exists, else an account without privileges.",
        form=Form.ACCOUNT,
    ),
)
_NETWORK = (
    *_address(
        "ha",
        "The node's own address on the HA network, which only the nodes use (etcd, replication,"
        " Patroni). It stays on this machine.",
    ),
    *_address(
        "management",
        "The machine's own address on the clients' network; optional. It stays on this machine, so"
        " it cannot be the public address.",
    ),
    *_address(
        "public",
        "Where clients reach the database and the API. It moves with the active node, which adds it"
        " to an interface; do not configure it on any machine.",
    ),
    Setting(
        "network.public_lifetime",
        ADDRESS_LIFETIME,
        "How long the kernel keeps the public address when it is not refreshed.",
        "seconds",
        MIN_ADDRESS_LIFETIME,
        MAX_ADDRESS_LIFETIME,
    ),
    Setting(
        "network.clients",
        "",
        "The networks from which users may log in to PostgreSQL; if empty, all.",
        form=Form.NETWORKS,
    ),
)
_ENGINES = (
    Setting(
        "postgresql.bin_directory",
        "",
        "The directory of PostgreSQL's programs; if empty, that of the newest usable version"
        " installed.",
        form=Form.PATH,
    ),
    Setting(
        "postgresql.adopt",
        "",
        "An existing data directory that the first node takes over; its server must be shut down."
        " If empty, the node creates a new database.",
        form=Form.PATH,
    ),
    Setting(
        "postgresql.adopt_by",
        "move",
        "How adopted data get into the node's directory. move renames their directory, which must"
        " be on the same file system. copy leaves the original behind: never start it again.",
        choices=("move", "copy"),
    ),
    Setting(
        "postgresql.settings_file",
        "",
        "The postgresql.conf of adopted data, if it is outside their directory, as on Debian"
        " (/etc/postgresql/VERSION/NAME/postgresql.conf).",
        form=Form.PATH,
    ),
    Setting(
        "postgresql.locale",
        "C",
        "The locale of a new database. All nodes must sort text in the same way, whatever their C"
        " library; only C and POSIX ensure that.",
        form=Form.LOCALE,
    ),
    Setting(
        "postgresql.encoding",
        "UTF8",
        "The encoding of a new database.",
        choices=ENCODINGS,
    ),
    Setting(
        "etcd.bin_directory",
        "",
        "The directory of etcd's program; if empty, that of the installed one.",
        form=Form.PATH,
    ),
    Setting(
        "etcd.accept_old",
        NO,
        "Whether nodes that other machines can reach may run an etcd older than 3.5.3, such as"
        " Debian 12's. Before 3.5, the files of every node, even the witness, hold the passwords of"
        " the store's accounts in clear text: whoever reads them controls the cluster. 3.5.0 to"
        " 3.5.2 can become inconsistent after a crash. Used only when a cluster is created.",
        choices=(NO, YES),
    ),
    Setting(
        "etcd.quota_bytes",
        StoreLimits().quota_bytes,
        "The maximum size of etcd's database on a data node; a witness has twice that.",
        "bytes",
        LOWEST_QUOTA,
        HIGHEST_QUOTA,
    ),
)
_TIMES = (
    Setting(
        "timers.leader_ttl",
        Timers().leader_ttl,
        "How long the leader key outlives its holder. A lost active node is replaced within this"
        " time, or 5 s later if etcd has just elected a leader of its own. Used only when a cluster"
        " is created.",
        "seconds",
        MIN_LEADER_TTL,
        MAX_LEADER_TTL,
    ),
    Setting(
        "timers.stuck_standby",
        Timers().stuck_standby,
        "A standby that makes no progress for this long gets a new base backup.",
        "seconds",
        MIN_STUCK_STANDBY,
        MAX_SECONDS,
    ),
    Setting(
        "timers.stopped_store",
        Timers().stopped_store,
        "How long the store may be down before the nodes that a running task needs are powered on.",
        "seconds",
        MIN_STOPPED_STORE,
        MAX_STOPPED_STORE,
    ),
    Setting(
        "timers.replication_lag",
        Timers().replication_lag,
        "The replication lag of the passive node at which the cluster warns.",
        "seconds",
        MIN_REPLICATION_LAG,
        MAX_SECONDS,
    ),
    Setting(
        "sessions.idle_minutes",
        SessionLimits().idle_minutes,
        "How long a session lives without a call.",
        "minutes",
        1,
        7 * 24 * 60,
    ),
    Setting(
        "sessions.absolute_hours",
        SessionLimits().absolute_hours,
        "How long a session lives at most.",
        "hours",
        1,
        30 * 24,
    ),
    Setting(
        "sessions.per_user",
        SessionLimits().per_user,
        "How many sessions a user may have; one more ends the session that was idle the longest.",
        "sessions",
        1,
        1000,
    ),
    Setting(
        "api.workers",
        ApiSettings().workers,
        "How many processes serve the API, each with about 70 MB; 0 means one for every two cores,"
        " at most four.",
        "processes",
        0,
        MAX_API_WORKERS,
    ),
)
_PORTS = (
    _port("etcd_client", Ports().etcd_client, "etcd, for its clients: on the HA address."),
    _port("etcd_peer", Ports().etcd_peer, "etcd, for its other members: on the HA address."),
    _port("patroni", Ports().patroni, "Patroni's REST API: on the HA address."),
    _port("postgres", Ports().postgres, "PostgreSQL: on the HA and the public address."),
    _port("api", Ports().api, "The API: on the public address."),
    _port("join", Ports().join, "The API, for nodes that join: on the HA address."),
)

SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {each.key: each for each in (*_NODE, *_NETWORK, *_PORTS, *_ENGINES, *_TIMES)}
)


def defaults() -> dict[str, Value]:
    """Return the default of each setting."""
    return {key: setting.default for key, setting in SETTINGS.items()}

"""The paths in a node's directory."""

import dataclasses
import ssl
from pathlib import Path

BOOT = "boot.json"
"""The boot file of a node that has not joined yet (`infrastructure.boot.BOOT_FILE`)."""
PATRONI_CONFIG = "patroni.yml"
STATUS = "run/status.json"
REQUIRED_VOTES = "relied.json"
FIRST_ADMINISTRATOR = "administrator.json"
PATRONI_PASSWORDS = "run/patroni.pgpass"
CA_CERTIFICATE = "tls/ca.crt"
CA_KEY = "tls/ca.key"
NODE_CERTIFICATE = "tls/node.crt"
NODE_KEY = "tls/node.key"
SERVICE_CA_CERTIFICATE = "tls/service-ca.crt"
SERVICE_CA_KEY = "tls/service-ca.key"
POSTGRES_CERTIFICATE = "tls/postgres.crt"
API_CERTIFICATE = "tls/api.crt"
API_KEY = "tls/api.key"


@dataclasses.dataclass(frozen=True)
class Layout:
    """The paths of one node; `root` is absolute."""

    root: Path

    @property
    def etcd_data(self) -> Path:
        """The data directory of etcd."""
        return self.root / "etcd"

    @property
    def pgdata(self) -> Path:
        """The data directory of PostgreSQL."""
        return self.root / "pgdata"

    @property
    def base_backup_unreported(self) -> Path:
        """The marker of a first base backup whose end has not been reported yet."""
        return self.root / "copy.untold"

    @property
    def incomplete_base_backup(self) -> Path:
        """The incomplete base backup."""
        return self.root / "pgdata.copying"

    @property
    def patroni_config(self) -> Path:
        """Patroni's configuration, rewritten at each start."""
        return self.root / PATRONI_CONFIG

    @property
    def required_votes(self) -> Path:
        """The required votes: the VMs that the store needs while a task changes the voters."""
        return self.root / REQUIRED_VOTES

    @property
    def kept(self) -> Path:
        """The node's last knowledge of its cluster."""
        return self.root / "kept.json"

    @property
    def member_slots(self) -> Path:
        """The replication slots that Patroni has created here for members."""
        return self.root / "member-slots.json"

    @property
    def registered(self) -> Path:
        """The data nodes that a task of this node is creating."""
        return self.root / "registered.json"

    @property
    def ssh_key(self) -> Path:
        """The key with which a data node reaches hosts by SSH, where its nodes are on some."""
        return self.root / "ssh_key"

    @property
    def hosts_inventory(self) -> Path:
        """A copy of the inventory of these hosts."""
        return self.root / "hosts.json"

    @property
    def kept_records(self) -> Path:
        """The last valid records of the store that a data node must keep."""
        return self.root / "records"

    @property
    def first_administrator(self) -> Path:
        """The first user of a new cluster, until the store has it."""
        return self.root / FIRST_ADMINISTRATOR

    @property
    def logs(self) -> Path:
        """The directory of all logs."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """The directory of files of this run only."""
        return self.root / "run"

    @property
    def patroni_passwords(self) -> Path:
        """The password file that Patroni writes for PostgreSQL's tools."""
        return self.root / PATRONI_PASSWORDS

    @property
    def api_socket(self) -> Path:
        """The socket over which the service orders the API to serve or to stop."""
        return self.api_socket_of(0)

    def api_socket_of(self, worker: int) -> Path:
        """Return the socket for a worker of the API (from 1), or for the API's main process (0)."""
        return self.run / (f"api-{worker}.sock" if worker else "api.sock")

    @property
    def api_connections(self) -> Path:
        """The socket over which the API's workers get their connections."""
        return self.run / "api-connections.sock"

    @property
    def api_writes(self) -> Path:
        """The marks of the writes of the API's workers."""
        return self.run / "api-writes"

    @property
    def lock(self) -> Path:
        """The lock that the supervisor holds."""
        return self.run / "lock"

    @property
    def space_lock(self) -> Path:
        """The lock of the program of this node that frees space in a full store."""
        return self.run / "space-lock"

    @property
    def supervisor_pid(self) -> Path:
        """The supervisor's process id, one decimal number."""
        return self.run / "supervisor.pid"

    @property
    def status(self) -> Path:
        """The supervisor's last status."""
        return self.root / STATUS

    @property
    def ca(self) -> Path:
        """The certificate of the CA for nodes."""
        return self.root / CA_CERTIFICATE

    @property
    def service_ca(self) -> Path:
        """The certificate of the CA that clients of PostgreSQL and the API trust."""
        return self.root / SERVICE_CA_CERTIFICATE

    @property
    def postgres_certificate(self) -> Path:
        """PostgreSQL's certificate; its key is the node's own."""
        return self.root / POSTGRES_CERTIFICATE

    @property
    def certificate(self) -> Path:
        """The node's own certificate."""
        return self.root / NODE_CERTIFICATE

    @property
    def key(self) -> Path:
        """The key of the node's own certificate."""
        return self.root / NODE_KEY

    def make_directories(self) -> None:
        """Create the directories that the supervisor needs, accessible only to their owner."""
        for path in (self.root, self.logs, self.run):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS context for this node as a client of the others' etcd and Patroni."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.certificate, self.key)
        return context

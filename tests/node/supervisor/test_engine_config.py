"""The parts' configuration: command lines, Patroni's configuration, PostgreSQL's settings."""

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.support.engine_config import DATA, LAYOUT, PLAIN, TLS
from tests.support.node_files import equal_secrets, identity

from openvcha.node.background.isolation import VOTERS
from openvcha.node.engines import Engines, EtcdProgram
from openvcha.node.etcd.member import (
    ELECTION_MS,
    HEARTBEAT_MS,
    client_url_of_peer,
    etcd_argv,
    known_endpoints,
)
from openvcha.node.identity import ApiSettings, DatabaseCreation, Timers
from openvcha.node.patroni.config import patroni_config, retry_seconds
from openvcha.node.postgres.server import postgres_major
from openvcha.node.postgres.settings import local_settings, pg_hba
from openvcha.node.public_interface import PublicInterface
from openvcha.node.supervisor.plan import all_parts, engine_parts

ETCD = EtcdProgram(Path("/usr/bin/etcd"), (3, 4, 23), "system")
SECRETS = equal_secrets("pw-secret")
WITNESS = identity("w", kind="witness", ha_address="127.1.1.3", etcd_initial_cluster={})


def test_etcd_asks_everybody_for_a_certificate() -> None:
    """Clients and peers need the cluster's certificate; nothing is served without TLS."""
    argv = etcd_argv(Path("/usr/bin/etcd"), DATA, LAYOUT)
    assert {"--client-cert-auth=true", "--peer-client-cert-auth=true"} < set(argv)
    assert not any("http://" in word for word in argv)
    assert "--initial-cluster=a=https://127.1.1.1:2380,b=https://127.1.1.2:2380" in argv
    assert "--initial-cluster-state=existing" in argv


def test_a_first_member_names_itself() -> None:
    """A new cluster of one needs no list of members."""
    argv = etcd_argv(Path("/usr/bin/etcd"), WITNESS, LAYOUT)
    assert "--initial-cluster=w=https://127.1.1.3:2380" in argv


def test_endpoints_have_the_own_first() -> None:
    """A node's clients try its own member before the others, each once."""
    assert known_endpoints(DATA, LAYOUT) == ["https://127.1.1.2:2379", "https://127.1.1.1:2379"]
    assert client_url_of_peer("https://[fd00::1]:2380", 2379) == "https://[fd00::1]:2379"


def test_patroni_is_closed_to_strangers() -> None:
    """Its REST API requires certificate and password, and passwords are only in its file."""
    config = json.loads(patroni_config(DATA, SECRETS, LAYOUT, TLS, known_endpoints(DATA, LAYOUT)))
    assert config["restapi"]["verify_client"] == "required"
    assert config["restapi"]["authentication"]["password"] == "pw-secret"
    assert config["etcd3"]["hosts"] == ["127.1.1.2:2379", "127.1.1.1:2379"]
    assert config["namespace"] == "/openvcha/patroni"
    assert config["postgresql"]["authentication"]["replication"]["sslmode"] == "verify-ca"


def test_the_cluster_is_synchronous_and_quick() -> None:
    """A new cluster's configuration has both settings that failover needs."""
    config = json.loads(patroni_config(DATA, SECRETS, LAYOUT, TLS, []))
    dcs = config["bootstrap"]["dcs"]
    assert dcs["synchronous_mode"] is True
    assert dcs["synchronous_mode_strict"] is False
    assert (dcs["ttl"], dcs["loop_wait"], dcs["retry_timeout"]) == (20, 1, 9)
    assert dcs["primary_start_timeout"] == 0
    assert "data-checksums" in config["bootstrap"]["initdb"]


@pytest.mark.parametrize("creation", [DatabaseCreation(), DatabaseCreation(encoding="LATIN1")])
def test_a_new_database_is_created_as_the_identity_says(creation: DatabaseCreation) -> None:
    """By default it sorts equally on all machines."""
    own = msgspec.structs.replace(DATA, creation=creation)
    initdb = json.loads(patroni_config(own, SECRETS, LAYOUT, TLS, []))["bootstrap"]["initdb"]
    assert {"encoding": creation.encoding} in initdb
    assert {"locale": "C"} in initdb


def test_etcd_accepts_the_times() -> None:
    """It does not start with an election after fewer than five heartbeats."""
    assert ELECTION_MS >= 5 * HEARTBEAT_MS


def test_an_election_in_the_store_demotes_nobody() -> None:
    """Patroni waits while a store member waits for a new raft leader."""
    client: Any = SimpleNamespace(read_timeout=retry_seconds(Timers().leader_ttl))
    calculate = import_module("patroni.dcs.etcd").AbstractEtcdClientWithFailover._calculate_timeouts
    asked, share, _ = calculate(client, VOTERS)
    longest_round = 2 * ELECTION_MS / 1000
    assert asked == VOTERS
    assert share > longest_round


@pytest.mark.parametrize("leader_ttl", [20, 21, 45, 300])
def test_a_primary_that_hears_nothing_ends_before_its_key(leader_ttl: int) -> None:
    """Patroni's own rule for a loop that waits twice, for reading and for the key."""
    own = msgspec.structs.replace(DATA, timers=Timers(leader_ttl=leader_ttl))
    made = json.loads(patroni_config(own, SECRETS, LAYOUT, TLS, []))["bootstrap"]["dcs"]
    assert made["ttl"] == leader_ttl
    assert made["loop_wait"] + 2 * made["retry_timeout"] <= leader_ttl
    assert made["retry_timeout"] >= retry_seconds(Timers().leader_ttl)


def test_without_tls_nothing_asks_for_it() -> None:
    """A PostgreSQL without TLS gets no setting that it would refuse."""
    config = patroni_config(DATA, SECRETS, LAYOUT, PLAIN, [])
    assert b"sslmode" not in config
    assert b'"ssl"' not in config
    assert b"hostssl" not in config
    assert local_settings(LAYOUT, PLAIN)["log_destination"] == "csvlog"
    assert local_settings(LAYOUT, TLS)["log_destination"] == "jsonlog"


@pytest.mark.parametrize("tls", [True, False])
def test_nobody_enters_without_a_password(tls: bool) -> None:
    """Every line of pg_hba requires scram; administrators come before the rest."""
    lines = pg_hba(tls, "replicator", ("postgres", "rewind"))
    assert all("scram-sha-256" in line and "trust" not in line for line in lines)
    assert all(line.startswith("hostssl") is tls for line in lines)
    assert all(line.endswith("clientcert=verify-ca") is tls for line in lines[:3])
    assert " all all all " in lines[-1]


def test_users_log_in_from_the_networks_of_clients_only() -> None:
    """The cluster's own roles have certificates, wherever they come from."""
    networks = ("192.0.2.0/24", "2001:db8::/32")
    lines = pg_hba(tls=True, replication="replicator", administrators=("a", "b"), clients=networks)
    assert lines[:3] == pg_hba(tls=True, replication="replicator", administrators=("a", "b"))[:3]
    assert lines[3:] == [f"hostssl all all {network} scram-sha-256" for network in networks]


@pytest.mark.parametrize(
    ("ha", "public", "listen"),
    [
        ("192.0.2.1", "198.51.100.7", "192.0.2.1,198.51.100.7:5432"),
        ("2001:db8::1", "2001:db8:1::7", "[2001:db8::1],[2001:db8:1::7]:5432"),
        ("192.0.2.1", "2001:db8:1::7", "192.0.2.1,[2001:db8:1::7]:5432"),
    ],
)
def test_postgresql_listens_at_the_public_address_of_an_interface(
    ha: str, public: str, listen: str
) -> None:
    """After its own: Patroni takes the first. It finds both, as PostgreSQL's setting wants them."""
    on = PublicInterface(interface="eth0", clients=("192.0.2.0/24",))
    own = msgspec.structs.replace(DATA, ha_address=ha, public_address=public, public=on)
    made = json.loads(patroni_config(own, SECRETS, LAYOUT, TLS, []))["postgresql"]
    assert made["listen"] == listen
    split_host_port = import_module("patroni.utils").split_host_port
    assert split_host_port(made["listen"], None) == (f"{ha},{public}", 5432)
    assert made["pg_hba"][-1] == "hostssl all all 192.0.2.0/24 scram-sha-256"
    without = json.loads(patroni_config(DATA, SECRETS, LAYOUT, TLS, []))["postgresql"]
    assert without["listen"] == without["connect_address"]


def test_a_witness_has_etcd_only() -> None:
    """The parts follow from the node's kind; the API comes last, so it is stopped first."""
    engines = Engines(TLS, ETCD)
    assert [part.name for part in all_parts(WITNESS, LAYOUT, engines, {})] == ["etcd"]
    assert [part.name for part in engine_parts(DATA, LAYOUT, engines, {})] == ["etcd", "patroni"]
    parts = all_parts(DATA, LAYOUT, engines, {}, cores=2)
    assert [part.name for part in parts] == ["etcd", "patroni", "service", "api"]
    assert [part.gated for part in parts] == [False, True, False, False]


def test_the_api_has_workers_where_there_are_cores() -> None:
    """What accepts the connections comes last; all know how many workers there are."""
    parts = all_parts(DATA, LAYOUT, Engines(TLS, ETCD), {}, cores=7)
    assert [part.name for part in parts[2:]] == ["service", "api-1", "api-2", "api-3", "api"]
    assert [part.argv[-2:] for part in parts[2:]] == [
        ("--workers", "3"),
        ("--worker", "1"),
        ("--worker", "2"),
        ("--worker", "3"),
        ("--workers", "3"),
    ]
    assert all("--workers" in part.argv for part in parts[2:])


@pytest.mark.parametrize(
    ("cores", "wished", "workers"),
    [(1, 0, 1), (2, 0, 1), (3, 0, 1), (4, 0, 2), (8, 0, 4), (64, 0, 4), (2, 16, 16), (64, 1, 1)],
)
def test_the_number_of_workers(cores: int, wished: int, workers: int) -> None:
    """One for each two cores, at most four; or as the node's settings say."""
    assert ApiSettings(workers=wished).workers_on(cores) == workers


@pytest.mark.parametrize("workers", [-1, 17, 2.5])
def test_a_number_of_workers_that_no_node_can_have(workers: float) -> None:
    """It is refused where it is read."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"workers": workers}, ApiSettings)


def test_no_command_line_has_a_secret() -> None:
    """Every account of the machine can read command lines."""
    parts = all_parts(DATA, LAYOUT, Engines(TLS, ETCD), {})
    assert not any("secret" in word for part in parts for word in part.argv)


def test_the_version_of_existing_data_is_read(tmp_path: Path) -> None:
    """The engine is chosen for the existing data."""
    assert postgres_major(tmp_path) is None
    (tmp_path / "PG_VERSION").write_text("15\n")
    assert postgres_major(tmp_path) == 15

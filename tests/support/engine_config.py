"""A data node's directory and engines, as values, for tests of its programs' configuration."""

from pathlib import Path

from openvcha.node.engines import Postgres
from openvcha.node.identity import Identity
from openvcha.node.layout import Layout

LAYOUT = Layout(Path("/srv/a"))


TLS = Postgres(Path("/pg/bin"), (15, 4), has_tls=True, source="system")


PLAIN = Postgres(Path("/pg/bin"), (14, 4), has_tls=False, source="embedded")


MEMBERS = {"a": "https://127.1.1.1:2380", "b": "https://127.1.1.2:2380"}


DATA = Identity(
    cluster_id="c-1",
    cluster_name="lab",
    member="b",
    kind="data",
    vm="vm-1",
    name="node",
    ha_address="127.1.1.2",
    etcd_initial_cluster=MEMBERS,
    data_nodes={"a": "127.1.1.1"},
    etcd_state="existing",
)

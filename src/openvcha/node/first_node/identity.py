"""The identity of a first node, from the settings of its machine. Pure."""

import ipaddress

import msgspec

from openvcha.node.engines import EngineDirectories
from openvcha.node.first_node.files import alone
from openvcha.node.identity import (
    ApiSettings,
    DatabaseCreation,
    Identity,
    Ports,
    SessionLimits,
    StoreLimits,
    Timers,
)
from openvcha.node.public_interface import PublicInterface, helper_socket
from openvcha.node.settings.table import SETTINGS, YES, Value, Values


def first_identity(values: Values, *, cluster_id: str, member: str) -> Identity:
    """Return the identity of a cluster's only node.

    ``values`` are completed: each address has its prefix. Raises msgspec.ValidationError.
    """
    return alone(
        Identity(
            cluster_id=cluster_id,
            cluster_name=str(values["node.cluster"]),
            member=member,
            kind="data",
            vm="",
            name=str(values["node.name"]),
            ha_address=str(values["network.ha_address"]),
            public_address=str(values["network.public_address"]),
            public=public_interface(values),
            ports=msgspec.convert(_section(values, "ports"), Ports),
            etcd_initial_cluster={},
            infrastructure={
                "kind": values["node.infrastructure"],
                "ha_prefix": values["network.ha_prefix"],
                "public_prefix": values["network.public_prefix"],
            },
            sessions=msgspec.convert(_section(values, "sessions"), SessionLimits),
            store=StoreLimits(quota_bytes=int(values["etcd.quota_bytes"])),
            timers=msgspec.convert(_section(values, "timers"), Timers),
            api=msgspec.convert(_section(values, "api"), ApiSettings),
            accepts_old_etcd=accepts_old_etcd(values),
            engines=engine_directories(values),
            creation=DatabaseCreation(
                locale=str(values["postgresql.locale"]),
                encoding=str(values["postgresql.encoding"]),
            ),
        )
    )


def public_interface(values: Values) -> PublicInterface | None:
    """Return where the public address is while the node leads; None for a trial's loopback one."""
    address = ipaddress.ip_address(str(values["network.public_address"]))
    if address.is_loopback:
        return None
    prefix, clients = int(values["network.public_prefix"]), str(values["network.clients"])
    return PublicInterface(
        interface=str(values["network.public_interface"]),
        prefix=None if prefix == address.max_prefixlen else prefix,
        lifetime=int(values["network.public_lifetime"]),
        clients=tuple(clients.split(", ")) if clients else (),
        helper=helper_socket(str(address)),
    )


def engine_directories(values: Values) -> EngineDirectories:
    """Return the directories of the programs that the settings choose."""
    return EngineDirectories(
        postgresql=str(values["postgresql.bin_directory"]),
        etcd=str(values["etcd.bin_directory"]),
    )


def accepts_old_etcd(values: Values) -> bool:
    """Return whether the settings accept an etcd that is else for labs only."""
    return values["etcd.accept_old"] == YES


def _section(values: Values, section: str) -> dict[str, Value]:
    return {
        setting.name: values[key] for key, setting in SETTINGS.items() if setting.section == section
    }

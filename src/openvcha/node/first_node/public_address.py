"""The configuration of the helper that holds a first node's public address: only root writes it."""

import os
from pathlib import Path

import msgspec

from openvcha.node.address.interface.helper_config import (
    DIRECTORY,
    HelperConfig,
    UnusableConfigError,
    config_for,
    encode_config,
    read_config,
)
from openvcha.node.first_node.findings import Finding
from openvcha.node.first_node.identity import first_identity, public_interface
from openvcha.node.identity import absolute
from openvcha.node.settings.table import Values
from openvcha.system.files.durable import write_durably
from openvcha.system.files.path_owners import CannotDropRoot

SUBJECT = "helper"
READABLE = 0o644


def check(values: Values, uid: int, configs: Path = DIRECTORY) -> list[Finding]:
    """Return what to know of the helper's file; ``uid`` is the node's account. Raises OSError.

    There is nothing to know without a public address on an interface.
    """
    wanted = helper_config(values, uid)
    if wanted is None:
        return []
    path = file_for(values, configs)
    if os.geteuid() != 0:
        return [_written_by_root(path, wanted)]
    try:
        there = read_config(path)
    except FileNotFoundError:
        return [Finding.ok(SUBJECT, f"{path} will be written")]
    except (UnusableConfigError, CannotDropRoot) as error:
        return [Finding.refused(SUBJECT, f"{error}: delete it")]
    if there.node != wanted.node:
        text = f"{path} belongs to another node, {there.node}: choose another node.directory"
        return [Finding.refused(SUBJECT, text)]
    return [Finding.ok(SUBJECT, f"{path} will be replaced")]


def _written_by_root(path: Path, wanted: HelperConfig) -> Finding:
    """Return a refusal unless root has written the file: no clients would reach the node.

    The one that `vcha systemd address` writes serves any node of the account.
    """
    for each in (path, path.with_name(f"{wanted.address}.json")):
        if _serves(each, wanted):
            return Finding.ok(SUBJECT, f"{each} exists")
    text = " ".join(encode_config(wanted).decode().split())
    return Finding.refused(SUBJECT, f"root must write {path} first: {text}")


def _serves(path: Path, wanted: HelperConfig) -> bool:
    """Return whether the helper of a file is the one that the node will ask."""
    try:
        there = read_config(path)
        same = msgspec.structs.replace(there, user=there.uid(), node=there.node or wanted.node)
    except (OSError, UnusableConfigError, CannotDropRoot):
        return False
    # The node does not depend on the prefix: it is that of the helper's address.
    return same == msgspec.structs.replace(wanted, prefix=there.prefix)


def write(values: Values, uid: int, configs: Path = DIRECTORY) -> None:
    """Write the helper's file, as root; do nothing if we are not, or it is not needed."""
    wanted = helper_config(values, uid)
    if wanted is None or os.geteuid() != 0:
        return
    configs.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_durably(file_for(values, configs), encode_config(wanted), READABLE)


def helper_config(values: Values, uid: int) -> HelperConfig | None:
    """Return the helper's configuration; None if the address is not on an interface.

    ``values`` are completed; without an interface, there is nothing to configure yet.
    """
    if not values["network.public_address"] or not values["network.public_interface"]:
        return None
    if public_interface(values) is None:
        return None
    identity = first_identity(values, cluster_id="", member="")
    return config_for(identity, absolute(str(values["node.directory"])), uid)


def file_for(values: Values, configs: Path) -> Path:
    """Return the path of the helper's file for a node."""
    return configs / f"{Path(str(values['node.directory'])).name}.json"

"""The files that a thief of a witness has."""

import subprocess
from pathlib import Path

from openvcha.node.identity import Identity
from openvcha.node.layout import Layout


def identity(member: str, kind: str, address: str) -> Identity:
    """Return the identity of a node."""
    return Identity(
        cluster_id="c",
        cluster_name="lab",
        member=member,
        kind="data" if kind == "data" else "witness",
        vm="vm-1",
        name=member,
        ha_address=address,
        public_address=address,
        etcd_initial_cluster={},
    )


def written(root: Path, files: dict[str, bytes]) -> Layout:
    """Write files into a node's directory, and return its layout."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Layout(root)


def started(argv: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a program, with its output in a log."""
    with log.open("wb") as output:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

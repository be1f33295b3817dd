"""Clients use the current certificates."""

from pathlib import Path

import pytest

from openvcha.node.layout import Layout
from openvcha.node.security.certificates import KeyPair, new_authority, node_certificate
from openvcha.node.security.tls import NodeTls


def write(layout: Layout, authority: KeyPair, own: KeyPair) -> None:
    layout.ca.parent.mkdir(exist_ok=True)
    layout.ca.write_bytes(authority.certificate)
    layout.certificate.write_bytes(own.certificate)
    layout.key.write_bytes(own.key)


def made(layout: Layout) -> KeyPair:
    authority = new_authority()
    own = node_certificate(authority, "a", "127.1.1.1")
    write(layout, authority, own)
    return own


def test_the_same_context_until_the_files_are_others(tmp_path: Path) -> None:
    """Otherwise each request would open a new connection."""
    layout = Layout(tmp_path)
    made(layout)
    tls = NodeTls(layout)
    before = tls()
    assert tls() is before
    made(layout)
    assert tls() is not before


def test_half_written_files_change_nothing(tmp_path: Path) -> None:
    """A certificate with another's key is no pair: the last complete one stays in use."""
    layout = Layout(tmp_path)
    tls = NodeTls(layout)
    with pytest.raises(OSError, match="No such file"):
        tls()
    made(layout)
    before = tls()
    other = made(layout)
    layout.key.write_bytes(new_authority().key)
    assert tls() is before
    layout.key.write_bytes(other.key)
    assert tls() is not before

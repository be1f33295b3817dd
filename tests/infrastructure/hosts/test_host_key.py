"""Public keys of hosts: what is one, and its fingerprint."""

import pytest

from openvcha.infrastructure.hosts.host_key import UnusableHostKey, checked, fingerprint

BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIDR/wZXZckMjI0Jcd3Weuww1LJbSQCl8nzI2ZE/ksk7T"
KEY = f"ssh-ed25519 {BLOB}"


def test_a_key_is_kept_without_its_comment() -> None:
    """Its fingerprint is that of the key alone."""
    assert checked(f" {KEY} root@h2\n") == KEY
    assert fingerprint(KEY) == fingerprint(f"{KEY} other")
    assert fingerprint(KEY) == "SHA256:hhUxqSJUmzHG3168cvuBTf8olwR0mu5NyH0GldaqFvI"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        BLOB,
        f"ssh-rsa {BLOB}",
        f"ssh-dss {BLOB}",
        f"@cert-authority {KEY}",
        f"ssh-ed25519 {BLOB[:-1]}",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
        "ssh-ed25519 !!!!",
        f"ssh-ed25519 {BLOB}{'A' * 5000}",
    ],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    """With the reason, and before it is stored anywhere."""
    with pytest.raises(UnusableHostKey):
        fingerprint(text)

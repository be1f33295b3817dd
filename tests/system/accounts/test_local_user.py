"""The audit names the account of the kernel, whatever the environment says."""

import os
import pwd

import pytest

from openvcha.system.accounts.local_user import local_user

OWN = os.getuid()
NAME = pwd.getpwuid(OWN).pw_name
OTHER = pwd.getpwnam("nobody")
UNNAMED = 54321
"""A uid without an entry in passwd."""


def test_the_environment_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can set these variables, and so pose as another user."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    assert local_user() == NAME


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (str(OTHER.pw_uid), f"{NAME} (SUDO_UID: nobody)"),
        (str(UNNAMED), f"{NAME} (SUDO_UID: {UNNAMED})"),
        ("9999999999", f"{NAME} (SUDO_UID: 9999999999)"),
        (str(OWN), NAME),
        ("", NAME),
        ("-1", NAME),
        ("1\n", NAME),
        ("root", NAME),
        ("1" * 11, NAME),
    ],
)
def test_what_sudo_tells_is_marked(told: str, shown: str) -> None:
    """The variable may be set by the caller too, so it never replaces the account."""
    assert local_user({"SUDO_UID": told}) == shown


def test_an_account_without_a_name_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of an error after the change was made."""
    monkeypatch.setattr(os, "getuid", lambda: UNNAMED)
    assert local_user({}) == str(UNNAMED)

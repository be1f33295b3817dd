"""Which key proves that a host is the one that is meant, at a terminal."""

import stat
from pathlib import Path

import pytest

from openvcha.cli import host_trust
from openvcha.client.errors import CommandError
from openvcha.infrastructure.hosts.address import HostAddress
from openvcha.infrastructure.hosts.host_key import fingerprint
from openvcha.infrastructure.hosts.ssh import known_keys

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDR/wZXZckMjI0Jcd3Weuww1LJbSQCl8nzI2ZE/ksk7T"
ADDRESS = HostAddress("root", "2001:db8::7", 2222)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the questions; the host offers KEY, and there is a terminal."""
    questions: list[str] = []

    async def offered(_: HostAddress) -> str:
        return KEY

    monkeypatch.setattr(host_trust, "offered_key", offered)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(host_trust, "say", questions.append)
    return questions


@pytest.mark.parametrize("yes", [True, False])
async def test_a_person_compares_and_the_answer_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], yes: bool
) -> None:
    """Only a yes is; then nobody is asked again."""
    known = tmp_path / ".ssh" / "known_hosts"
    monkeypatch.setattr(host_trust, "confirm", lambda _: yes)
    if not yes:
        with pytest.raises(CommandError, match="not accepted"):
            await host_trust.trusted_host(ADDRESS, None, known)
        assert not known.exists()
        return
    found = await host_trust.trusted_host(ADDRESS, None, known)
    assert found.host_keys == (KEY,)
    assert fingerprint(KEY) in asked[0]
    assert stat.S_IMODE(known.parent.stat().st_mode) == 0o700
    asked.clear()
    assert await host_trust.trusted_host(ADDRESS, None, known) == found
    assert asked == []


def test_a_file_without_a_last_line_end_keeps_its_last_host(tmp_path: Path) -> None:
    """The new host comes on a line of its own."""
    known = tmp_path / "known_hosts"
    known.write_text(f"other {KEY}")
    host_trust.remember(known, ADDRESS, KEY)
    assert known_keys(known, ADDRESS) == (KEY,)
    assert known_keys(known, HostAddress("root", "other")) == (KEY,)

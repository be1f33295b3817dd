"""`vcha init` as a command: what it refuses, prints and asks. SIMULATED: no program runs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from openvcha.api.secret import Secret
from openvcha.cli.main import app
from openvcha.cli.node import config, init_steps
from openvcha.cli.output import plain
from openvcha.node.first_node.checks import Account, Examination
from openvcha.node.first_node.findings import Finding
from openvcha.node.settings.table import Values, defaults

ADDRESSES = ("--ha-address", "192.0.2.11", "--public-address", "198.51.100.10")


class Steps:
    """The steps of the command, as it calls them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.findings: list[Finding] = [Finding.ok("ports", "free")]
        self.made: list[dict[str, Any]] = []
        self.values: Values = {}
        patch.setattr(init_steps, "account_for", lambda _: Account(os.geteuid(), "own"))
        patch.setattr(init_steps, "examined", self.examined)
        patch.setattr(init_steps, "make", self.make)

    def examined(self, values: Values, *_: Any, **__: Any) -> Examination:
        self.values = values
        return Examination(tuple(self.findings))

    def make(
        self,
        values: Values,
        account: Account,
        found: Examination,
        administrator: str,
        password: Secret,
        *,
        generated: bool,
    ) -> init_steps.Result:
        del account
        self.made.append({"password": password, "generated": generated, "values": values})
        directory = Path(str(values["node.directory"]))
        passwords = directory / "p.json"
        api = "https://198.51.100.10:8443"
        return init_steps.Result(
            directory, administrator, passwords, directory / "ca", api, ("admin",), found.findings
        )


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Steps:
    """Replace what the command does, and the usual file of settings."""
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "none")
    monkeypatch.setattr("openvcha.cli.node.init.DEFAULT_FILE", tmp_path / "none")
    return Steps(monkeypatch)


def vcha(tmp_path: Path, *words: str, stdin: str = "") -> tuple[int, str, str]:
    given = ["init", "--directory", str(tmp_path / "node"), *words]
    done = CliRunner().invoke(app, given, prog_name="vcha", input=stdin)
    return done.exit_code, done.stdout, done.stderr


def test_it_makes_the_node_and_says_what_comes_next(steps: Steps, tmp_path: Path) -> None:
    """Where the passwords are, how to run it and how to ask it."""
    code, out, err = vcha(tmp_path, *ADDRESSES)
    assert (code, err) == (0, "")
    for word in ("OK ", "p.json", f"vcha node run {tmp_path}/node", "admin: unchanged", "--ca "):
        assert word in out
    (made,) = steps.made
    assert made["generated"]
    assert made["password"].reveal() not in out
    assert made["values"]["network.ha_address"] == "192.0.2.11"


def test_a_refusal_changes_nothing(steps: Steps, tmp_path: Path) -> None:
    """It is on standard error, and what is all right beside it."""
    steps.findings.append(Finding.refused("clock", "is wrong"))
    code, out, err = vcha(tmp_path, *ADDRESSES)
    assert code == 1
    assert "REFUSED  clock       is wrong" in err
    assert "nothing was changed" in err
    assert "OK       ports" in out
    assert not steps.made
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize("refused", [True, False])
def test_a_dry_run_ends_before_the_password(steps: Steps, tmp_path: Path, refused: bool) -> None:
    """For programs too, with the same exit code as without it."""
    if refused:
        steps.findings.append(Finding.refused("clock", "is wrong"))
    code, out, _ = vcha(tmp_path, *ADDRESSES, "--dry-run", "--json")
    found = json.loads(out)
    assert (code, found["refused"], found["made"]) == (int(refused), refused, False)
    assert found["findings"][0] == {"subject": "ports", "verdict": "OK", "text": "free"}
    assert not steps.made


def test_json_of_a_node_that_was_made(steps: Steps, tmp_path: Path) -> None:
    """One document with the findings and all places; no password."""
    code, out, _ = vcha(tmp_path, *ADDRESSES, "--json")
    found = json.loads(out)
    assert (code, found["made"], found["directory"]) == (0, True, str(tmp_path / "node"))
    assert found["superusers"] == ["admin"]
    assert steps.made[0]["password"].reveal() not in out


def test_settings_come_from_the_file_and_then_from_options(steps: Steps, tmp_path: Path) -> None:
    """An option overrides --set, and that the file."""
    file = tmp_path / "own.toml"
    file.write_text('[node]\nname = "from-file"\n[ports]\napi = 9001\npatroni = 9002\n')
    words = ("--config", str(file), "--set", "ports.api=9443", "--set", "network.ha_address=::1")
    assert vcha(tmp_path, *words, *ADDRESSES)[0] == 0
    expected = {
        "node.name": "from-file",
        "ports.api": 9443,
        "ports.patroni": 9002,
        "network.ha_address": "192.0.2.11",
        "postgresql.adopt_by": "move",
    }
    assert {key: steps.values[key] for key in expected} == expected


def test_wrong_settings_end_it_before_anything(steps: Steps, tmp_path: Path) -> None:
    """All of them, from all sources."""
    code, _, err = vcha(tmp_path, "--set", "ports.api=1", "--set", "x.y=2", "--ha-address", "x")
    assert code == 1
    assert [line.split(": ")[2] for line in err.splitlines()] == [
        "ports.api",
        "'x.y'",
        "network.ha_address",
    ]
    assert "write SECTION.NAME=VALUE" in vcha(tmp_path, "--set", "ports.api")[2]
    assert not steps.values


def test_a_password_file_is_read(steps: Steps, tmp_path: Path) -> None:
    """Also from standard input; an empty one is refused before anything is made."""
    code, out, _ = vcha(tmp_path, *ADDRESSES, "--password-file", "-", stdin="chosen-one\n")
    assert code == 0
    assert steps.made[0]["password"].reveal() == "chosen-one"
    assert not steps.made[0]["generated"]
    assert "chosen-one" not in out
    assert vcha(tmp_path, *ADDRESSES, "--password-file", "-")[0] == 1
    assert len(steps.made) == 1


def test_without_a_terminal_it_never_asks(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing addresses are a matter of the examination then."""

    def prompt(*_: Any, **__: Any) -> str:
        raise AssertionError

    monkeypatch.setattr(plain, "prompt", prompt)
    assert vcha(tmp_path)[0] == 0
    assert steps.values["network.ha_address"] == ""


def test_on_a_terminal_it_asks_for_what_is_missing(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only for that, and checks the answers like other settings."""
    answers = iter(["192.0.2.11", "a-password", "not an address"])
    asked: list[str] = []

    def prompt(text: str, **_: Any) -> str:
        asked.append(text)
        return next(answers)

    monkeypatch.setattr(init_steps, "is_interactive", lambda: True)
    monkeypatch.setattr("openvcha.cli.passwords.sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(plain, "prompt", prompt)
    monkeypatch.setattr(
        init_steps,
        "administrator_password",
        lambda *_: Secret(prompt("New password of administrator@vsphere.local")),
    )
    assert vcha(tmp_path, "--public-address", "198.51.100.10")[0] == 0
    assert asked == ["network.ha_address", "New password of administrator@vsphere.local"]
    assert steps.made[0]["password"].reveal() == "a-password"
    code, _, err = vcha(tmp_path, "--public-address", "198.51.100.10")
    assert code == 1
    assert "network.ha_address: is 'not an address'" in err


def test_another_account_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """And root needs an account that exists and can run the program."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert init_steps.account_for(defaults()) == Account(12345, "12345")
    with pytest.raises(Exception, match="run this as root"):
        init_steps.account_for(defaults() | {"node.user": "postgres"})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Exception, match="there is no account 'nobody-at-all'"):
        init_steps.account_for(defaults() | {"node.user": "nobody-at-all"})
    monkeypatch.setattr(init_steps, "account_works", lambda _: False)
    with pytest.raises(Exception, match="cannot run"):
        init_steps.account_for(defaults() | {"node.user": "daemon"})


def test_root_becomes_the_owner_of_adopted_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise PostgreSQL could not read them."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(init_steps, "account_works", lambda _: True)
    monkeypatch.setattr(init_steps, "_owner", lambda _: 1)
    found = init_steps.account_for(defaults() | {"postgresql.adopt": str(tmp_path)})
    assert (found.uid, found.prefix) == (1, ())

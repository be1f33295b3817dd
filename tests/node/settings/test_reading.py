"""Settings from a file and a command line: all errors at once, each with its place."""

import os
from pathlib import Path

import pytest

from openvcha.node.settings.pages import commented_file
from openvcha.node.settings.reading import LARGEST_FILE, Unreadable, read_settings
from openvcha.node.settings.table import SETTINGS, defaults

WRONG = """\
# a comment
[node]
name = "first"
nmae = "x"

[ntework]
x = 1

[ports]
api = 80
postgres = "9000"
patroni = 2379

[timers]
leader_ttl = 20.5
stuck_standby = nan
replication_lag = true

[network]
ha_address = "10.0.0.300"
public_address = "fe80::1%eth0"
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "openvcha.toml"
    path.write_text(text)
    return path


def test_all_errors_are_found_at_once_with_their_lines(tmp_path: Path) -> None:
    """One run of the check is enough to repair a file."""
    path = written(tmp_path, WRONG)
    found = read_settings(path)
    places = [text.removeprefix(f"{path}:").split(": ", 2)[:2] for text in found.errors]
    assert places == [
        ["4", "node.'nmae'"],
        ["6", "'ntework'"],
        ["10", "ports.api"],
        ["11", "ports.postgres"],
        ["15", "timers.leader_ttl"],
        ["16", "timers.stuck_standby"],
        ["17", "timers.replication_lag"],
        ["20", "network.ha_address"],
        ["21", "network.public_address"],
        ["12", "ports.patroni"],
    ]
    text = "\n".join(found.errors)
    assert "did you mean name?" in text
    assert "did you mean network?" in text
    assert "ports.api: is 80; allowed: a whole number from 1024 to 65535" in text
    assert "is 2379, as ports.etcd_client is; choose two different ports" in text


def test_what_is_not_set_has_its_default(tmp_path: Path) -> None:
    """And only what is set has a source."""
    path = written(tmp_path, '[ports]\napi = 9443\n["timers"]\nstuck_standby = 60\n')
    found = read_settings(path)
    assert found.errors == ()
    assert found.sources == dict.fromkeys(("ports.api", "timers.stuck_standby"), str(path))
    assert found.values == defaults() | {"ports.api": 9443, "timers.stuck_standby": 60.0}
    assert isinstance(found.values["timers.stuck_standby"], float)


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    """Its texts are read as the types of the settings; an error names no line."""
    path = written(tmp_path, "[ports]\napi = 80\n")
    given = {"ports.api": "9443", "timers.stuck_standby": "12.5", "node.name": "7"}
    found = read_settings(None, given)
    assert found.errors == ()
    expected = {"ports.api": 9443, "timers.stuck_standby": 12.5, "node.name": "7"}
    assert {key: found.values[key] for key in given} == expected
    wrong = read_settings(path, {"ports.api": "many", "port.api": "1"}).errors
    assert [text.split(": ")[0] for text in wrong] == [
        f"{path}:2",
        "the command line",
        "the command line",
    ]
    assert "did you mean ports.api?" in wrong[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ports\n", "line 1"),
        ("[ports]\napi = 1\napi = 2\n", "line 3"),
        ("a = [" * 10000, "is not valid TOML"),
        ("#" * (LARGEST_FILE + 1), "larger than"),
    ],
    ids=["syntax", "twice", "deep", "large"],
)
def test_what_is_no_toml_says_why(tmp_path: Path, text: str, said: str) -> None:
    """With the line that tomllib names."""
    with pytest.raises(Unreadable, match=said):
        read_settings(written(tmp_path, text))


def test_what_is_no_file_says_why(tmp_path: Path) -> None:
    """A missing one, one that is not text, and one that would block."""
    with pytest.raises(Unreadable, match="No such file"):
        read_settings(tmp_path / "none")
    path = tmp_path / "x"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Unreadable, match="not UTF-8"):
        read_settings(path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Unreadable, match="not a regular file"):
        read_settings(tmp_path / "fifo")


@pytest.mark.parametrize("key", SETTINGS)
def test_no_value_of_another_type_is_taken(tmp_path: Path, key: str) -> None:
    """Nor breaks the check: neither a list, nor a table, a time or a text without end."""
    section, name = key.split(".")
    for value in ("[]", "{}", "1979-05-27", "true", f'"{"x" * 5000}"', "-1", "inf", "1e999"):
        found = read_settings(written(tmp_path, f"[{section}]\n{name} = {value}\n"))
        assert len(found.errors) == 1, (value, found.errors)
        assert len(found.errors[0]) < 1000
        assert f"openvcha.toml:2: {key}: is " in found.errors[0]


def test_a_section_that_is_a_value_is_refused(tmp_path: Path) -> None:
    """And the advice says how to write it."""
    found = read_settings(written(tmp_path, "ports = 3\n"))
    assert len(found.errors) == 1
    assert "openvcha.toml:1: ports: is 3, not a section; write [ports]" in found.errors[0]


def test_the_commented_file_is_the_defaults(tmp_path: Path) -> None:
    """As it is, and with each comment taken away from a setting."""
    text = commented_file()
    assert read_settings(written(tmp_path, text)).values == defaults()
    bare = "\n".join(
        line.removeprefix("#") if line[:1] == "#" and line[1:2] != " " else line
        for line in text.splitlines()
    )
    found = read_settings(written(tmp_path, bare))
    assert found.errors == ()
    assert found.values == defaults()
    assert len(found.sources) == len(SETTINGS)
    assert max(map(len, text.splitlines())) <= 100


def test_the_commented_file_has_values_that_are_set(tmp_path: Path) -> None:
    """They are no comments, and read as they were."""
    values = defaults() | {"node.name": "a b", "ports.api": 9443, "timers.stuck_standby": 7.5}
    found = read_settings(written(tmp_path, commented_file(values)))
    assert found.values == values
    assert set(found.sources) == {"node.name", "ports.api", "timers.stuck_standby"}

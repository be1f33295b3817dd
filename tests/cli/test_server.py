"""An invalid server, password file or node is reported in one line, and nothing is created."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from openvcha.cli.main import app
from openvcha.cli.server import parse_server
from openvcha.client.errors import CommandError

NO_SERVER = [
    "",
    "x",
    "http://h:1",
    "https://",
    "https://:443",
    "https://x:abc",
    "https://x:",
    "https://x:0",
    "https://x:-1",
    "https://x:99999",
    "https://x:123456",
    "https://x:٣",
    "https://[::1",
    "https://::1",
    "https://[::g]",
    "https://[::1]x:1",
    "https://x[::1]",
    "https://[v1.x]",
    "https://a..b",
    "https://.a",
    "https://-a",
    "https://" + 64 * "a",
    "https://" + ".".join(130 * ["a"]),
    "https://300.1.1.1",
    "https://u@h",
    "https://h/path",
    "https://h?x",
    "https://h#x",
    "https://h h",
    "https://h\nh",
    "https://h%zz",
]


@pytest.mark.parametrize("text", NO_SERVER)
def test_what_cannot_be_a_server_is_told_in_one_way(text: str) -> None:
    """Whatever is wrong; the input is quoted, up to a limit."""
    with pytest.raises(
        CommandError, match=r"is not a server \(.+\): write https://HOST:PORT$"
    ) as met:
        parse_server(text)
    assert repr(text[:100]) in str(met.value)
    assert len(str(met.value)) < 400


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://h", "https://h:443"),
        ("https://h/", "https://h:443"),
        ("https://H.example.:8443", "https://h.example.:8443"),
        ("https://127.0.0.1:1", "https://127.0.0.1:1"),
        ("https://[::1]", "https://[::1]:443"),
        ("https://[::1]:65535", "https://[::1]:65535"),
        ("https://bücher.example", "https://xn--bcher-kva.example:443"),
        ("https://vc_1.local:443", "https://vc_1.local:443"),
    ],
)
def test_a_server_is_read(text: str, url: str) -> None:
    """The default port is 443."""
    assert parse_server(text).url == url


def run(*words: str, stdin: bytes = b"t\n") -> tuple[int, str]:
    done = CliRunner(env={"OPENVCHA_JOIN_TOKEN": ""}).invoke(app, list(words), input=stdin)
    return done.exit_code, done.stderr


CREATE = ("--role", "witness", "--ha-address", "127.0.0.1")
RIGHT = ("--join", "https://127.0.0.1:1")


@pytest.mark.parametrize("text", ["https://x:abc", "https://h:99999", "https://[::1"])
def test_every_command_tells_it(text: str, tmp_path: Path) -> None:
    """Those with --server, and --join."""
    events = run("events", "--server", text, "--user", "u")
    create = run("node", "create", str(tmp_path / "n"), "--join", text, *CREATE)
    for code, err in (events, create):
        assert code == 1
        assert "is not a server" in err
        assert err.count("\n") == 1
        assert "internal error" not in err
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        (RIGHT, b"", "there is no join token in standard input"),
        (RIGHT, b"\n", "there is no join token in standard input"),
        (RIGHT, b"\xff\xfe\n", "standard input is not text and cannot contain a join token"),
        ((*RIGHT, "--ca", "/nowhere"), b"t\n", "/nowhere cannot be used"),
        ((*RIGHT, "--ca", "f", "--thumbprint", "x"), b"t\n", "not both"),
        ((*RIGHT, "--ha-address", "192.0.2.77"), b"t\n", "cannot use 192.0.2.77"),
        ((*RIGHT, "--ha-address", "ü..b"), b"t\n", "'ü..b' is not an IP address"),
    ],
)
def test_nothing_is_made_for_a_node_that_cannot_join(
    words: tuple[str, ...], stdin: bytes, told: str, tmp_path: Path
) -> None:
    """No directory, no key."""
    node = tmp_path / "n"
    code, err = run("node", "create", str(node), *CREATE, *words, stdin=stdin)
    assert code == 1
    assert told in err
    assert not node.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe\x00secret", "is not text and cannot contain a password"),
        (b"", "there is no password in"),
        (b"\nsecret", "there is no password in"),
        (70000 * b"s", "is too long for a password"),
    ],
)
def test_a_file_without_a_password_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    """And nothing of its content."""
    (tmp_path / "f").write_bytes(content)
    server = ("--server", "https://127.0.0.1:1", "--user", "u")
    code, err = run("events", *server, "--password-file", str(tmp_path / "f"))
    assert code == 1
    assert told in err
    assert "secret" not in err
    assert "ssss" not in err


def test_what_is_no_node_is_told(tmp_path: Path) -> None:
    """A node that never ran has its identity; other directories do not."""
    code, err = run("node", "status", str(tmp_path))
    assert (code, "is not a node's directory" in err) == (3, True)
    (tmp_path / "node.json").write_text("{}")
    code, err = run("node", "status", str(tmp_path))
    assert (code, err) == (3, "")

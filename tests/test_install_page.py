"""docs/install.md: its commands are those of this version, and its ports those of the settings.

No command is run here: the tests of hosts in namespaces run the same steps
(``e2e/test_life_on_hosts.py``), but installed by no package manager and started by no systemd.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest
from typer.testing import CliRunner

from openvcha.api.codec.decode import decode_arguments_rest
from openvcha.api.operations import OPERATIONS
from openvcha.cli.main import app
from openvcha.cli.node.init_steps import UNITS_RUN
from openvcha.node.layout import SERVICE_CA_CERTIFICATE
from openvcha.node.service_manager.unit_files import NODES
from openvcha.node.settings.table import SETTINGS

PAGE = (Path(__file__).parent.parent / "docs" / "install.md").read_text()
SSH = 22


def _lines() -> Iterator[list[str]]:
    """Yield the words of each line that the page has typed, with its variables replaced."""
    variables: dict[str, str] = {}
    for block in re.findall(
        r"^<!-- run: [^\n]+ -->\n```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    ):
        for line in block.splitlines():
            if assigned := re.fullmatch(r'([A-Z]+)="(.*)"', line):
                variables[assigned[1]] = assigned[2]
            else:
                yield shlex.split(Template(line).substitute(variables), comments=True)


def _commands(program: str) -> list[tuple[str, ...]]:
    return sorted({tuple(words[1:]) for words in _lines() if words[0] == program})


def test_the_page_types_nothing_else() -> None:
    """So that each line is looked at by a test of this file."""
    assert {words[0] for words in _lines()} == {"./dev", "vcha", "systemctl"}
    assert len(list(_lines())) > 10
    unmarked = re.findall(r"(?<!-->)\n```sh\n", PAGE)
    assert unmarked == []


@pytest.mark.parametrize("words", _commands("vcha"), ids=" ".join)
def test_each_command_has_the_options_that_the_page_gives_it(words: tuple[str, ...]) -> None:
    """An unknown command or option is an error before the help text is shown."""
    answer = CliRunner().invoke(app, [*words, "--help"])
    assert answer.exit_code == 0, answer.output


@pytest.mark.parametrize("words", [("init", "--no-such"), ("no-such",)], ids=" ".join)
def test_what_does_not_exist_is_found(words: tuple[str, ...]) -> None:
    """The test above is worth what it refuses."""
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code != 0


def test_the_authority_is_where_the_node_keeps_it() -> None:
    """Each call of the API trusts that file."""
    paths = {words[words.index("--ca") + 1] for words in _commands("vcha") if "--ca" in words}
    assert paths == {f"{SETTINGS['node.directory'].default}/{SERVICE_CA_CERTIFICATE}"}


def test_systemd_starts_the_node_that_init_makes() -> None:
    """The unit exists, and its node is the one of the settings."""
    name = SETTINGS["node.name"].default
    assert _commands("systemctl") == [("enable", "--now", f"openvcha-node@{name}")]
    assert "openvcha-node@.service" in NODES
    assert SETTINGS["node.directory"].default == str(UNITS_RUN / str(name))


def test_the_deployment_is_one_that_the_api_accepts() -> None:
    """In its form; the hosts are the reader's."""
    (body,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (deploy,) = [each for each in OPERATIONS if each.id.endswith("vcha.cluster.deploy")]
    assert decode_arguments_rest(deploy, body.encode(), {}, [])["spec"]


def test_the_ports_are_those_of_the_settings() -> None:
    """A firewall that follows the page lets each of them through, and no other."""
    table = PAGE.partition("\n## Ports")[2].partition("\n## ")[0]
    listed = {
        int(port)
        for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
        for port in row.split(",")
    }
    settings = {int(each.default) for key, each in SETTINGS.items() if key.startswith("ports.")}
    assert listed == settings | {SSH}

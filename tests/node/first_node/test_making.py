"""In which order a first node is made, and as whom. SIMULATED: no program runs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from openvcha.api.secret import Secret
from openvcha.node.engines import Postgres
from openvcha.node.first_node import making
from openvcha.node.first_node.adoption.data import Data
from openvcha.node.first_node.adoption.programs import ProgramFailed
from openvcha.node.first_node.checks import Account, Examination
from openvcha.node.first_node.creation import BEGUN, Adopted, Begun, begun_in
from openvcha.node.first_node.making import PASSWORDS, Request, make_first_node
from openvcha.node.identity import IDENTITY, load_identity, load_secrets
from openvcha.node.layout import FIRST_ADMINISTRATOR
from openvcha.node.public_interface import PublicInterface
from openvcha.node.settings.table import defaults

POSTGRES = Postgres(Path("/bin-of-it"), (15, 4), True, "system")
DATA = Data(
    path=Path("/srv/old"),
    major=15,
    control={"Database system identifier": "73"},
    owner=0,
    mode=0o700,
    settings={},
    own_settings={},
    has_settings_file=True,
    signs=(),
    links=(),
    foreign=(),
    slots=(),
    prepared=0,
    libraries=(),
    size=0,
    device=1,
)


class Order:
    """What happens to a directory, in order; and who acts at each moment."""

    def __init__(self, patch: pytest.MonkeyPatch, directory: Path) -> None:
        self.directory = directory
        self.steps: list[str] = []
        self.acts = False
        self.fails = ""
        self.passwords = {"admin": Secret("generated")}
        for name in ("bring", "take_settings", "take_roles"):
            patch.setattr(making, name, self.step(name, ["admin"]))

    def step(self, name: str, result: Any) -> Any:
        def done(*_: Any, **__: Any) -> Any:
            assert not (self.directory / IDENTITY).exists(), "it is a node already"
            assert self.acts, "root works on the files of another account"
            self.steps.append(name)
            if name == self.fails:
                raise ProgramFailed(name)
            return result

        return done

    def hand_over(self, directory: Path) -> None:
        assert (directory / BEGUN).exists()
        assert (directory / "secrets.json").exists()
        self.steps.append("hand over")

    @contextmanager
    def acting(self) -> Iterator[None]:
        self.acts = True
        yield
        self.acts = False

    def make(
        self, data: Data | None, begun: Begun | None = None, adopt: str = "/srv/old"
    ) -> making.Made:
        values = {
            **defaults(),
            "node.directory": str(self.directory),
            "network.ha_address": "192.0.2.11",
            "network.ha_prefix": 28,
            "network.public_address": "198.51.100.10",
            "network.public_prefix": 24,
            "network.public_interface": "eth0",
            "network.clients": "192.0.2.0/24, 2001:db8::/64",
            "postgresql.adopt": adopt if data else "",
        }
        request = Request(
            values=values,
            account=Account(0, "own"),
            administrator=b"{}",
            passwords=self.passwords,
            application=Secret("of-the-application"),
        )
        found = Examination((), POSTGRES, begun, data)
        return make_first_node(request, found, hand_over=self.hand_over, acting=self.acting)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Order:
    """Return the order of the steps in an empty directory."""
    return Order(monkeypatch, tmp_path)


def test_data_are_adopted_by_the_account_before_it_is_a_node(order: Order) -> None:
    """The directory is handed over first, and the identity comes last."""
    made = order.make(DATA)
    assert order.steps == ["hand over", "bring", "take_settings", "take_roles"]
    assert made.superusers == ("admin",)
    assert (order.directory / IDENTITY).exists()
    assert not (order.directory / BEGUN).exists()
    assert load_secrets(order.directory).application is None
    assert json.loads((order.directory / PASSWORDS).read_text()) == {"admin": "generated"}


def test_passwords_of_an_earlier_run_are_not_shown(order: Order) -> None:
    """They count no longer once the next run was given one."""
    (order.directory / PASSWORDS).write_text('{"admin": "old"}')
    order.passwords = {}
    order.make(DATA)
    assert not (order.directory / PASSWORDS).exists()


def test_a_failure_leaves_what_the_next_run_continues(order: Order) -> None:
    """It knows from where the data came, also in the third run."""
    order.fails = "take_roles"
    first = Begun(adopted=Adopted(source="/srv/old", system="73"))
    for begun, adopt in ((None, "/srv/old"), (first, str(order.directory / "pgdata"))):
        with pytest.raises(ProgramFailed):
            order.make(DATA, begun, adopt)
        left = begun_in(order.directory)
        assert left == Begun(adopted=Adopted(source="/srv/old", system="73"))
        order.acts = False
    order.fails = ""
    order.make(DATA, left)
    assert (order.directory / IDENTITY).exists()


def test_a_new_database_needs_no_adoption(order: Order) -> None:
    """Its identity is that of a cluster's only node, with prefixes for the configuration."""
    order.make(None)
    identity = load_identity(order.directory)
    assert order.steps == ["hand over"]
    assert list(identity.etcd_initial_cluster) == [identity.member]
    assert identity.vm == ""
    networks = ("192.0.2.0/24", "2001:db8::/64")
    helper = "/run/openvcha-address/198.51.100.10.sock"
    expected = PublicInterface(interface="eth0", prefix=24, clients=networks, helper=helper)
    assert identity.public == expected
    assert identity.infrastructure == {"kind": "hosts", "ha_prefix": 28, "public_prefix": 24}
    assert load_secrets(order.directory).application == Secret("of-the-application")
    shown = json.loads((order.directory / PASSWORDS).read_text())
    assert shown == {"admin": "generated", "app": "of-the-application"}
    for name in (PASSWORDS, FIRST_ADMINISTRATOR, "secrets.json", "tls/ca.key"):
        assert (order.directory / name).stat().st_mode & 0o777 == 0o600

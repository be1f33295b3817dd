"""The table of settings agrees with itself, with the node's identity and with the page."""

from pathlib import Path

import msgspec
import pytest

from openvcha.node.identity import ApiSettings, Ports, SessionLimits, Timers
from openvcha.node.public_interface import MAX_CLIENT_NETWORKS
from openvcha.node.settings import pages
from openvcha.node.settings.check import checked, from_words
from openvcha.node.settings.findings import Finding
from openvcha.node.settings.table import SECTIONS, SETTINGS, Setting

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_a_default_is_allowed(setting: Setting) -> None:
    """And each setting is explained, in a section that exists."""
    assert checked(setting, setting.default) == setting.default
    assert setting.section in SECTIONS
    assert setting.text.endswith(".")
    if not isinstance(setting.default, str):
        assert setting.low < setting.high
        for bound in (setting.low, setting.high):
            assert checked(setting, from_words(setting, f"{bound:.12g}")) == bound


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("192.0.2.0/24,2001:DB8::/64", "192.0.2.0/24, 2001:db8::/64"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.1/24", None),
        ("fe80::%eth0/64", None),
        ("192.0.2.0/24,", None),
        (",".join(["192.0.2.0/24"] * (MAX_CLIENT_NETWORKS + 1)), None),
    ],
)
def test_networks_are_a_bounded_list(given: str, found: str | None) -> None:
    """One that PostgreSQL's access rules could not have is refused."""
    value = checked(SETTINGS["network.clients"], given)
    assert value == found or (found is None and isinstance(value, Finding))


@pytest.mark.parametrize(
    ("section", "kind"),
    [("ports", Ports), ("timers", Timers), ("sessions", SessionLimits), ("api", ApiSettings)],
)
def test_a_section_has_what_the_identity_has(section: str, kind: type[msgspec.Struct]) -> None:
    """A field of ``node.json`` that an administrator may choose is in the table; same default."""
    found = {each.name: each.default for each in SETTINGS.values() if each.section == section}
    assert found == msgspec.structs.asdict(kind())


def test_the_page_has_the_tables() -> None:
    """If not: python -m openvcha.node.settings.pages docs/settings.md."""
    assert pages.with_tables(PAGE.read_text()) == PAGE.read_text()


def test_a_page_without_a_place_for_the_tables_is_refused() -> None:
    """It would lose them."""
    for text in ("", pages.BEGIN, f"{pages.END}\n{pages.BEGIN}\n"):
        with pytest.raises(ValueError, match="the page has no lines"):
            pages.with_tables(text)

"""Names from elsewhere are shown short, and cannot act on a terminal."""

from openvcha.api.foreign_text import MAX_NAME, shown_name


def test_a_name_is_short_and_without_control_characters() -> None:
    """It is printed on a terminal, among other words."""
    assert shown_name("a\x1b[2J" + "x" * 99) == "a?[2J" + "x" * (MAX_NAME - 5)


def test_invisible_letters_of_a_name_are_shown() -> None:
    """Two names that look alike would be taken for one."""
    assert shown_name("app\u3164 \u202eb") == "app? ?b"
    assert shown_name("b\u00fcro") == "b\u00fcro"


def test_a_value_that_is_no_text_is_shown_too() -> None:
    """A foreign reply may contain anything."""
    assert shown_name(None) == "None"

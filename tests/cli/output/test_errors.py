"""Errors are one line for people and a code for scripts."""

import pytest
import typer
from typer.testing import CliRunner

from openvcha.cli.options import PROGRAM
from openvcha.cli.output.errors import ErrorReportingGroup
from openvcha.cli.output.logs import TRACEBACK
from openvcha.client.errors import CommandError, RequestRefused, ServerUnreachable
from openvcha.lab.errors import LabNotFound
from openvcha.store.errors import StoreUnavailable

BODY = {"error_type": "RESOURCE_BUSY", "messages": [{"default_message": "Busy."}]}


def _run(error: BaseException) -> tuple[int, str]:
    app = typer.Typer(cls=ErrorReportingGroup, add_completion=False, pretty_exceptions_enable=False)

    @app.command()
    def work() -> None:
        raise error

    @app.callback()
    def group() -> None:
        """Make it a group of commands."""

    done = CliRunner().invoke(app, ["work"])
    return done.exit_code, done.stderr


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CommandError("it is so"), 1, "vcha: it is so"),
        (LabNotFound("there is none"), 3, "vcha: there is none"),
        (ServerUnreachable("nobody answers"), 1, "vcha: nobody answers"),
        (RequestRefused(500, BODY), 1, "vcha: RESOURCE_BUSY: Busy."),
        (StoreUnavailable("no quorum"), 1, "vcha: no quorum"),
        (KeyboardInterrupt(), 130, "vcha: interrupted"),
        (typer.Abort(), 130, "vcha: interrupted"),
        (FileNotFoundError(2, "No such file", "/x"), 1, "vcha: No such file: /x."),
        (OSError(28, "Full", "/x"), 1, "vcha: Full: /x. Free some space there, then try again."),
        (
            KeyError("x"),
            1,
            "vcha: internal error: KeyError: 'x' (set OPENVCHA_TRACEBACK=1 for a traceback)",
        ),
    ],
)
def test_an_error_is_one_line_and_a_code(error: BaseException, code: int, text: str) -> None:
    """Never a traceback."""
    assert _run(error) == (code, text + "\n")


def test_hints_name_the_command_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind ./dev there is no vcha on the path."""
    monkeypatch.setenv(PROGRAM, "./dev vcha")
    assert _run(LabNotFound("no lab: `vcha lab up` makes one"))[1] == (
        "vcha: no lab: `./dev vcha lab up` makes one\n"
    )


def test_the_traceback_is_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """For debugging."""
    monkeypatch.setenv(TRACEBACK, "1")
    assert "Traceback (most recent call last)" in _run(KeyError("x"))[1]


def test_typers_own_errors_stay_typers() -> None:
    """Wrong usage shows the usage, and has its own code."""
    code, text = _run(typer.BadParameter("not so"))
    assert code == 2
    assert "not so" in text

"""From command-line arguments to a REST call."""

import io
from pathlib import Path
from typing import Any

import pytest

from openvcha.api.operations import OPERATIONS, Operation
from openvcha.cli.arguments import build
from openvcha.cli.operation_help import (
    body_leaves,
    find_operations,
    path_leaves,
    query_leaves,
    short_name,
)
from openvcha.client.errors import CommandError


def _operation(name: str) -> Operation:
    (found,) = find_operations(name)
    return found


@pytest.mark.parametrize("operation", OPERATIONS, ids=short_name)
def test_each_operation_is_found_by_its_names(operation: Operation) -> None:
    """By its full id and its short one, in any case; with its parameters."""
    for text in (operation.id, short_name(operation), short_name(operation).upper()):
        assert find_operations(text) == [operation]
    leaves = path_leaves(operation) + query_leaves(operation) + body_leaves(operation)
    assert bool(leaves) == bool(operation.parameters)
    assert len({leaf.name for leaf in leaves}) == len(leaves)


def test_an_ambiguous_name_gives_all_that_it_may_mean() -> None:
    """The end of an id is enough only when it is unique."""
    assert [op.name for op in find_operations("passive.redeploy")] == ["redeploy"]
    assert len(find_operations("redeploy")) == 2
    assert find_operations("nonsense") == []


@pytest.mark.parametrize(
    ("name", "params", "path", "query", "body"),
    [
        ("tasks.get", ["task=a:b c"], "/cis/tasks/a:b%20c", [], None),
        (
            "folder.list",
            ["names=a", "names=b", "type=HOST"],
            "/vcenter/folder",
            [("names", "a"), ("names", "b"), ("type", "HOST")],
            None,
        ),
        (
            "passive.redeploy",
            ["placement.name=x=y", "ha_ip.ipv4.prefix=24", "ha_ip.dns_servers=a"],
            "/vcenter/vcha/cluster/passive?action=redeploy&vmw-task=true",
            [],
            {"placement": {"name": "x=y"}, "ha_ip": {"ipv4": {"prefix": 24}, "dns_servers": ["a"]}},
        ),
        (
            "cluster.get",
            ["partial=true"],
            "/vcenter/vcha/cluster?action=get",
            [],
            {"partial": True},
        ),
    ],
)
def test_parameters_go_where_they_belong(
    name: str, params: list[str], path: str, query: list[tuple[str, str]], body: Any
) -> None:
    """Into the path, the query, or the body, converted to their types."""
    call = build(_operation(name), None, params)
    assert (call.path, call.query, call.body) == (path, query, body)


def test_a_body_comes_from_the_line_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And parameters are added to it."""
    operation = _operation("cluster.get")
    (tmp_path / "body").write_text('{"vc_spec": null}')
    monkeypatch.setattr("sys.stdin", io.StringIO('{"vc_spec": null}'))
    for text in ('{"vc_spec": null}', f"@{tmp_path / 'body'}", "-"):
        assert build(operation, text, ["partial=false"]).body == {
            "vc_spec": None,
            "partial": False,
        }


@pytest.mark.parametrize(
    ("name", "body", "params", "told"),
    [
        ("tasks.get", None, [], "needs --param task="),
        ("tasks.get", "{}", ["task=x"], "takes no body"),
        ("cluster.get", "{", [], "the body is not JSON"),
        ("cluster.get", None, ["partial"], "not NAME=VALUE"),
        ("cluster.get", None, ["partial=maybe"], "partial must be true or false, not 'maybe'"),
        ("cluster.get", None, ["part=true"], "has no parameter 'part'; its parameters: vc_spec"),
        ("cluster.get", "[]", ["partial=true"], "conflicts with another value"),
        (
            "passive.redeploy",
            '{"placement": 1}',
            ["placement.name=x"],
            "conflicts with another value",
        ),
        ("passive.redeploy", None, ["vc_spec.active_location.password=geheim"], "is a secret"),
    ],
)
def test_what_cannot_be_sent_is_told(
    name: str, body: str | None, params: list[str], told: str
) -> None:
    """Before anything is sent; a secret on the command line is not repeated."""
    with pytest.raises(CommandError, match=told) as met:
        build(_operation(name), body, params)
    assert "geheim" not in str(met.value)

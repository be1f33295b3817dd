"""The logs of all parts as one stream."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from openvcha.lab.logs import Line, follow, last_lines, parse, parts

NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
PATRONI = (
    '{"time":"2026-11-23T23:51:00.625+00:00","part":"patroni",'
    '"line":"2026-11-23 23:51:00,609 INFO: no action"}'
)
ETCD = '{"level":"warn","ts":"2026-11-23T23:50:59.494Z","caller":"a.go:1","msg":"slow","took":"1s"}'
POSTGRESQL = (
    '{"timestamp":"2026-11-23 23:57:00.774 UTC","error_severity":"ERROR","message":"no",'
    '"detail":"why","pid":1}'
)
SERVICE = '{"event":"call","user":"bob","level":"info","time":"2026-11-23T23:51:05.354866Z"}'


@pytest.mark.parametrize(
    ("raw", "clock", "level", "text"),
    [
        (PATRONI, "23:51:00.625", "", "INFO: no action"),
        (ETCD, "23:50:59.494", "warn", "slow took=1s"),
        (POSTGRESQL, "23:57:00.774", "error", "no; why"),
        (SERVICE, "23:51:05.354", "info", "call user=bob"),
        ("2026-11-23 23:00:01.000 UTC plain", "23:00:01.000", "", None),
        ('{"broken', "12:00:00.000", "", None),
        ("Traceback (most recent call last):", "12:00:00.000", "", None),
    ],
)
def test_lines_of_every_part_are_understood(
    raw: str, clock: str, level: str, text: str | None
) -> None:
    """Ours, etcd's, PostgreSQL's; others are shown unchanged, with the file's time."""
    line = parse("x", raw, NOON)
    assert line.time.strftime("%H:%M:%S.%f")[:-3] == clock
    assert line.level == level
    assert line.text == (raw if text is None else text)


def test_the_last_lines_come_in_the_order_of_time(tmp_path: Path) -> None:
    """Whichever file they are from; and one part can be selected."""
    (tmp_path / "etcd.jsonl").write_text(f"{ETCD}\n")
    (tmp_path / "patroni.jsonl").write_text(f"{PATRONI}\n")
    (tmp_path / "postgresql-Mon.json").write_text(f"{POSTGRESQL}\n")
    (tmp_path / "postgresql-Mon.log").write_text("ends here; the rest is in the other\n")
    assert parts(tmp_path) == ["etcd", "patroni", "postgresql"]
    (tmp_path / "console.log").touch()
    assert parts(tmp_path)[0] == "console"
    assert [line.part for line in last_lines(tmp_path, None, 9)] == [
        "etcd",
        "patroni",
        "postgresql",
    ]
    assert [line.part for line in last_lines(tmp_path, None, 1)] == ["postgresql"]
    assert [line.part for line in last_lines(tmp_path, "etcd", 9)] == ["etcd"]
    assert last_lines(tmp_path, None, 0) == []


async def _next(lines: AsyncIterator[Line]) -> str:
    async with asyncio.timeout(60):
        return (await anext(lines)).text


def _event(text: str) -> str:
    return json.dumps({"event": text}) + "\n"


async def test_following_shows_what_comes_also_after_a_rotation(tmp_path: Path) -> None:
    """Old lines are not repeated, an incomplete one is waited for, a new file is read at once."""
    log = tmp_path / "service.jsonl"
    log.write_text(_event("old"))
    async with aclosing(follow(tmp_path, None)) as lines:  # type: ignore[type-var]  # a generator
        first = asyncio.create_task(_next(lines))
        await asyncio.sleep(0)
        with log.open("a") as file:
            file.write(_event("one")[:5])
            file.flush()
            await asyncio.sleep(0)
            file.write(_event("one")[5:])
        assert await first == "one"
        log.rename(tmp_path / "service.jsonl.1")
        log.write_text(_event("two"))
        (tmp_path / "etcd.jsonl").write_text(_event("three"))
        assert {await _next(lines), await _next(lines)} == {"two", "three"}

"""The pages of an etcd member, read as JSON."""

import pytest

from openvcha.store.etcd.member_pages import MemberHealth, read_health


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (b'{"health":"true","reason":""}', MemberHealth.HEALTHY),
        (b'{"health":"false","reason":"RAFT NO LEADER"}', MemberHealth.UNHEALTHY),
        (b'{"health":"false","was":"true"}', MemberHealth.UNHEALTHY),
        (b'{"reason":"true"}', MemberHealth.UNKNOWN),
        (b'{"health":true}', MemberHealth.UNKNOWN),
        (b'{"health":["true"]}', MemberHealth.UNKNOWN),
        (b'{"health":"perhaps"}', MemberHealth.UNKNOWN),
        (b'["health","true"]', MemberHealth.UNKNOWN),
        (b'{"health":"true"', MemberHealth.UNKNOWN),
        (b"[" * 100_000, MemberHealth.UNKNOWN),
        (b"\xff", MemberHealth.UNKNOWN),
        (b"", MemberHealth.UNKNOWN),
    ],
    ids=range(12),
)
def test_only_the_field_itself_says_it(page: bytes, expected: MemberHealth) -> None:
    """Not a word elsewhere on the page; an unreadable page says neither."""
    assert read_health(page) is expected

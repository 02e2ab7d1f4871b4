"""RW.INCR, and what it answers; the other counters are compared with a real redis-server (test_differential.py)."""

from __future__ import annotations

import pytest
from tests.server.fake import Connection, FakeNode


def test_an_increment_with_a_number_is_counted_once() -> None:
    connection = Connection(FakeNode())
    line = ("RW.INCR", "n", "5", "SESSION", "s", "SEQ", "1")
    assert connection.run(*line) == b"*4\r\n$5\r\nvalue\r\n:5\r\n$5\r\nagain\r\n:0\r\n"
    assert connection.run(*line) == b"*4\r\n$5\r\nvalue\r\n:5\r\n$5\r\nagain\r\n:1\r\n"
    assert connection.run("RW.INCR", "n", "-2", "SESSION", "s", "SEQ", "2").startswith(b"*4\r\n$5\r\nvalue\r\n:3\r\n")
    assert connection.run("RW.INCR", "n", "1", "session", "other", "seq", "1").startswith(
        b"*4\r\n$5\r\nvalue\r\n:4\r\n"
    )
    assert connection.run("GET", "n") == b"$1\r\n4\r\n"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("RW.INCR n 1 SESSION s SEQ 2", "ERR SEQ 2 does not follow the last of this session, 0; send 1 first"),
        ("RW.INCR n x SESSION s SEQ 1", "ERR value is not an integer or out of range"),
        ("RW.INCR n 1 SESSION s SEQ 0", "ERR SEQ is a number from 1 to 4294967295"),
        ("RW.INCR n 1 SESSION s SEQ x", "ERR value is not an integer or out of range"),
        ("RW.INCR n 1 SEQ 1 SESSION s", "ERR syntax error"),
        (f"RW.INCR n 1 SESSION {'s' * 256} SEQ 1", "ERR a session's name has 1 to 255 bytes"),
        ("RW.INCR n 1 SESSION s", "ERR wrong number of arguments for 'rw.incr' command"),
        (
            "RW.AT one RW.INCR n 1 SESSION s SEQ 1",
            "ERR RW.INCR must see what it has done before, so it needs R + W > 3 owners, and one has less; use quorum or strong",
        ),
        (
            "RW.AT r=1,w=2 RW.INCR n 1 SESSION s SEQ 1",
            "ERR RW.INCR must see what it has done before, so it needs R + W > 3 owners, and r=1,w=2 has less; "
            "use quorum or strong",
        ),
    ],
)
def test_what_is_refused_changes_nothing(line: str, error: str) -> None:
    node = FakeNode()
    assert Connection(node).run(*line.split()).decode() == f"-{error}\r\n"
    assert not node.records


def test_a_value_that_is_no_number_is_left_alone() -> None:
    connection = Connection(FakeNode())
    connection.run("SET", "n", "text")
    assert connection.run("RW.INCR", "n", "1", "SESSION", "s", "SEQ", "1").startswith(b"-ERR value is not an integer")
    assert connection.run("GET", "n") == b"$4\r\ntext\r\n"


def test_quorum_counts_owners_only() -> None:
    """A stand-in may not have what the session did before."""
    node = FakeNode()
    Connection(node).run("RW.INCR", "n", "1", "SESSION", "s", "SEQ", "1")
    assert node.log[-1] == ("increment_once", b"n", "strong")

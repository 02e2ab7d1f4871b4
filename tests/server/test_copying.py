"""COPY and RENAME: what happens between their steps, and what is told where one of them fails.

Their replies are compared with a real redis-server (test_differential.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.fake import Connection, FakeNode, request
from tests.server.test_differential import RealRedis
from tests.server.test_differential import redis as redis_fixture

from ringwise.core.errors import QuorumNotReached, UnknownOutcome

redis = redis_fixture


def run(*lines: str, node: FakeNode | None = None) -> list[bytes]:
    connection = Connection(node or FakeNode())
    return [connection.run(*line.split()) for line in lines]


def test_value_and_all_that_belongs_to_it_are_copied_and_the_source_stays() -> None:
    connection = Connection(FakeNode())
    connection.run("RW.PUT", "a", "v", "TYPE", "text/plain", "FLAGS", "7", "EX", "100")
    assert connection.run("COPY", "a", "b") == b":1\r\n"
    reply = connection.run("RW.GET", "b")
    for part in (b"$1\r\nv\r\n", b"text/plain", b"flags\r\n:7", b"ttl_ms\r\n:100000"):
        assert part in reply
    assert connection.run("GET", "a") == connection.run("GET", "b")


def test_every_type_goes_under_another_name() -> None:
    lines = ["INCRBY n 4", "INCR n", "RENAME n m", "INCR m", "SADD s x y", "EXPIRE s 100", "RENAME s t", "SCARD t", "TTL t",
             "PFADD h x y z", "RENAME h i", "PFADD i x", "PFCOUNT i", "EXISTS n s h",
             "HSET f a 1 b 2", "HINCRBY f a 4", "EXPIRE f 100", "RENAME f g", "HGET g a", "HINCRBY g a 1", "HLEN g", "TTL g",
             "ZADD z 1 a 2.5 b", "ZINCRBY z 3 a", "COPY z y", "ZRANGE y 0 -1 WITHSCORES", "ZINCRBY y 1 a",
             "EXISTS f z"]  # fmt: skip
    assert run(*lines) == [
        b":4\r\n", b":5\r\n", b"+OK\r\n", b":6\r\n", b":2\r\n", b":1\r\n", b"+OK\r\n", b":2\r\n", b":100\r\n",
        b":1\r\n", b"+OK\r\n", b":0\r\n", b":3\r\n", b":0\r\n",
        b":2\r\n", b":5\r\n", b":1\r\n", b"+OK\r\n", b"$1\r\n5\r\n", b":6\r\n", b":2\r\n", b":100\r\n",
        b":2\r\n", b"$1\r\n4\r\n", b":1\r\n", b"*4\r\n$1\r\nb\r\n$3\r\n2.5\r\n$1\r\na\r\n$1\r\n4\r\n", b"$1\r\n5\r\n", b":1\r\n",
    ]  # fmt: skip


def renaming(lines: list[str], meanwhile: list[str]) -> tuple[Connection, FakeNode]:
    """RENAME a b, with commands of another connection after the read of its source."""
    node = FakeNode()
    run(*lines, node=node)
    node.delay = True
    connection = Connection(node)
    connection.session.receive(request("RENAME", "a", "b"))
    assert len(node.waiting) == 1
    node.delay = False
    run(*meanwhile, node=node)
    node.delay = True
    return connection, node


@pytest.mark.parametrize(
    ("lines", "meanwhile", "asked", "left"),
    [
        (["SET a 1"], ["SET a 2"], "GET a", b"$1\r\n2\r\n"),
        (["SADD a x"], ["DEL a", "SET a 2"], "GET a", b"$1\r\n2\r\n"),
        (["SET a 1"], ["DEL a"], "EXISTS a", b":0\r\n"),
        (
            ["SET a 1"],
            ["INCR a"],
            "EXISTS a",
            b":0\r\n",
        ),  # V9: an increment that a deletion has not seen counts as before it
        (["SADD a x"], ["SADD a y"], "SMEMBERS a", b"*1\r\n$1\r\ny\r\n"),
        (["PFADD a x"], ["PFADD a y"], "PFCOUNT a", b":2\r\n"),  # with what that addition had seen
        (["SET a 1"], [], "EXISTS a", b":0\r\n"),
    ],
)
def test_what_is_written_to_the_source_meanwhile_survives_there(
    lines: list[str], meanwhile: list[str], asked: str, left: bytes
) -> None:
    connection, node = renaming(lines, meanwhile)
    assert connection.finish() == b"+OK\r\n"
    node.delay = False
    assert run(asked, node=node) == [left]
    assert run("EXISTS b", node=node) == [b":1\r\n"]


def test_in_between_both_are_there() -> None:
    connection, node = renaming(["SET a 1", "SET b 0"], [])
    node.release()  # the read
    node.release()  # the copy; the deletion is applied and not answered
    assert [entry[:2] for entry in node.log[-3:]] == [("get", b"a"), ("place", b"b"), ("forget", b"a")]
    assert connection.finish() == b"+OK\r\n"


def test_a_copy_that_is_not_written_changes_nothing() -> None:
    connection, node = renaming(["SET a 1", "SET b 0"], [])
    node.fail[b"b"] = QuorumNotReached(needed=2, acknowledged=1)
    assert connection.finish().startswith(b"-NOQUORUM ")
    node.fail.clear()
    node.delay = False
    assert run("GET a", "GET b", node=node) == [b"$1\r\n1\r\n", b"$1\r\n0\r\n"]


@pytest.mark.parametrize(
    "failure", [QuorumNotReached(needed=2, acknowledged=1), UnknownOutcome(needed=2, acknowledged=1)]
)
def test_a_source_that_is_not_deleted_is_no_refusal(failure: QuorumNotReached | UnknownOutcome) -> None:
    """The destination is written, so nobody may be told that nothing was."""
    connection, node = renaming(["SET a 1"], [])
    node.fail[b"a"] = failure
    told = connection.finish()
    assert told.startswith(b"-UNKNOWN outcome: 1 of 2 keys were written, of the others: " + failure.code.encode())
    node.fail.clear()
    node.delay = False
    assert run("GET a", "GET b", node=node) == [b"$1\r\n1\r\n", b"$1\r\n1\r\n"]


def test_a_member_that_was_taken_and_not_added_is_no_refusal() -> None:
    """SMOVE is two steps as well."""
    node = FakeNode()
    run("SADD a m", node=node)
    node.delay = True
    connection = Connection(node)
    connection.session.receive(request("SMOVE", "a", "b", "m"))
    node.release()  # the reads
    node.fail[b"b"] = QuorumNotReached(needed=2, acknowledged=1)
    assert connection.finish().startswith(b"-UNKNOWN outcome: 1 of 2 keys were written")


def test_later_commands_of_the_connection_on_both_keys_wait() -> None:
    node = FakeNode()
    run("SET a 1", node=node)
    node.delay = True
    connection = Connection(node)
    lines = ("RENAME a b", "GET b", "EXISTS a", "COPY b a", "GET a")
    connection.session.receive(b"".join(request(*line.split()) for line in lines))
    assert connection.finish() == b"+OK\r\n$1\r\n1\r\n:0\r\n:1\r\n$1\r\n1\r\n"


def test_the_level_is_that_of_the_command() -> None:
    node = FakeNode()
    run("SET a 1", "RW.AT all RENAME a b", node=node)
    assert {level for _, _, level in node.log[1:]} == {"all"}


@pytest.mark.parametrize("line", ["COPY a b DB 16", "COPY a b DB -1", "COPY a b DB 99999999999", "COPY a a DB 0"])
def test_a_database_that_is_not_there_is_refused_as_by_redis(redis: Path, line: str) -> None:
    theirs = RealRedis(redis)
    assert run(line) == [theirs.send(request(*line.split()), 1)]
    theirs.close()


def test_a_copy_goes_to_another_database_and_leaves_this_one(redis: Path) -> None:
    theirs, ours = RealRedis(redis), Connection(FakeNode())
    theirs.send(request("FLUSHALL"), 1)
    lines = ["SET a 1", "COPY a a DB 3", "COPY a a DB 3", "COPY a b DB 3 DB 0", "GET b", "COPY a c DB 0 DB 3", "EXISTS c",
             "INCR a", "SELECT 3", "GET a", "GET c", "EXISTS b", "SADD a m", "COPY a a DB 0", "COPY a a DB 3",
             "COPY a a DB 0 REPLACE", "RENAME a d", "EXISTS a", "SELECT 0", "GET a"]  # fmt: skip
    for line in lines:
        assert ours.run(*line.split()) == theirs.send(request(*line.split()), 1), line
    theirs.close()


def test_wait_counts_a_copy_to_another_database_by_its_reply() -> None:
    connection = Connection(FakeNode())
    connection.run("SET", "a", "1")
    connection.run("COPY", "a", "a", "DB", "3")
    assert list(connection.session.written) == [b"a"], "what was written here"
    assert connection.session.moved
    assert connection.run("WAIT", "2", "0") == b":1\r\n"


def test_of_two_copies_at_once_without_replace_both_may_be_answered_as_made() -> None:
    """Neither was there when the other looked: to tell them apart takes a linearizable key."""
    node = FakeNode()
    run("SET a 1", "SET c 2", node=node)
    node.delay = True
    one, other = Connection(node), Connection(node)
    one.session.receive(request("COPY", "a", "b"))
    other.session.receive(request("COPY", "c", "b"))
    node.release()
    node.release()
    assert (one.settle(), other.settle()) == (b":1\r\n", b":1\r\n")


def test_a_copy_goes_to_another_bucket() -> None:
    lines = ("SET a 1", "COPY a a DB 3", "COPY a a DB 0", "SELECT 3", "GET a", "SET a 2", "COPY a a DB 0",
             "COPY a a DB 0 REPLACE", "SELECT 0", "GET a")  # fmt: skip
    connection = Connection(FakeNode())
    assert [connection.run(*line.split()) for line in lines] == [
        b"+OK\r\n", b":1\r\n", b"-ERR source and destination objects are the same\r\n", b"+OK\r\n", b"$1\r\n1\r\n", b"+OK\r\n",
        b":0\r\n", b":1\r\n", b"+OK\r\n", b"$1\r\n2\r\n",
    ]  # fmt: skip

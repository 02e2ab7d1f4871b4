"""Hashes and sorted sets as clients have them; most replies are compared with a real redis-server (test_differential.py)."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import hiredis
import pytest
from tests.core.forms import both_forms as both_forms
from tests.server.fake import Connection, FakeNode

from ringwise.core import versions
from ringwise.core.changes import Change
from ringwise.core.errors import QuorumNotReached
from ringwise.core.versions import Write
from ringwise.server.strings import MGET_BYTES_MAX


def read(connection: Connection, *words: bytes | str) -> Any:
    reader = hiredis.Reader(encoding="utf-8", errors="surrogateescape")
    reader.feed(connection.run(*words))
    return reader.gets()


@pytest.mark.parametrize(("write", "scan"), [("HSET", "HSCAN"), ("ZADD", "ZSCAN")])
def test_pages_have_everything_whatever_comes_and_goes(write: str, scan: str) -> None:
    connection, rng = Connection(FakeNode()), random.Random(1)
    names = [f"n{number}" for number in range(200)]
    for at, name in enumerate(names):
        connection.run(write, "k", *((name, str(at)) if write == "HSET" else (str(at), name)))
    found: dict[str, str] = {}
    cursor, pages = "0", 0
    while pages == 0 or cursor != "0":
        cursor, page = read(connection, scan, "k", cursor, "COUNT", "7")
        assert len(page) in range(2, 15)
        found |= zip(page[::2], page[1::2], strict=True)
        pages += 1
        other = f"other{rng.randrange(100)}"
        connection.run(write, "k", *((other, "x") if write == "HSET" else ("0", other)))
    assert pages >= 29
    assert {name: found[name] for name in names} == {name: str(at) for at, name in enumerate(names)}


def test_a_page_of_names_that_match() -> None:
    connection = Connection(FakeNode())
    connection.run("HSET", "h", "one", "1", "two", "2", "three", "3")
    cursor, page = read(connection, "HSCAN", "h", "0", "MATCH", "t*")
    assert cursor == "0" and dict(zip(page[::2], page[1::2], strict=True)) == {"two": "2", "three": "3"}


def test_in_resp3_pairs_are_pairs_and_scores_are_numbers() -> None:
    connection = Connection(FakeNode())
    connection.run("HELLO", "3")
    connection.run("ZADD", "z", "1.5", "a", "2", "b")
    connection.run("HSET", "h", "f", "1")
    assert connection.run("ZRANGE", "z", "0", "-1", "WITHSCORES") == (
        b"*2\r\n*2\r\n$1\r\na\r\n,1.5\r\n*2\r\n$1\r\nb\r\n,2\r\n"
    )
    assert connection.run("ZPOPMAX", "z") == b"*2\r\n$1\r\nb\r\n,2\r\n"
    assert connection.run("ZPOPMAX", "z", "1") == b"*1\r\n*2\r\n$1\r\na\r\n,1.5\r\n"
    assert connection.run("HGETALL", "h") == b"%1\r\n$1\r\nf\r\n$1\r\n1\r\n"


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("ZUNION 2 a b WITHSCORES", ["a", "b"]),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", ["d", "a", "b"]),
        ("ZINTERCARD 1 a LIMIT 2", ["a"]),
        ("ZRANGESTORE d s 0 -1", ["d", "s"]),
        ("HSET h f v", ["h"]),
        ("ZADD z 1 m", ["z"]),
    ],
)
def test_keys_are_found_wherever_they_stand(line: str, keys: list[str]) -> None:
    assert read(Connection(FakeNode()), "COMMAND", "GETKEYS", *line.split()) == keys


def test_a_command_waits_for_a_store_before_it_on_the_connection() -> None:
    """B2: the second must see what the first has stored."""
    connection = Connection(FakeNode(delay=True))
    connection.node.delay = False
    connection.run("ZADD", "a", "1", "m")
    connection.node.delay = True
    reply = (
        connection.send(b"ZUNIONSTORE d 1 a\r\nZCARD d\r\nZRANGESTORE e d 0 -1\r\nZCARD e\r\n") + connection.finish()
    )
    assert reply == b":1\r\n:1\r\n:1\r\n:1\r\n"


def test_a_store_replaces_whatever_there_was_and_its_expiry() -> None:
    connection = Connection(FakeNode())
    connection.run("ZADD", "z", "1", "m")
    for set_up in (("SET", "d", "v"), ("HSET", "d", "f", "v"), ("SADD", "d", "m"), ("ZADD", "d", "1", "old")):
        connection.run(*set_up)
        connection.run("EXPIRE", "d", "100")
        assert read(connection, "ZRANGESTORE", "d", "z", "0", "-1") == 1
        assert read(connection, "ZRANGE", "d", "0", "-1") == ["m"] and read(connection, "TTL", "d") == -1
        assert read(connection, "ZRANGESTORE", "d", "z", "5", "9") == 0
        assert read(connection, "EXISTS", "d") == 0


def test_a_collection_has_a_limit_of_its_own() -> None:
    node = FakeNode()
    node.config = replace(node.config, value_bytes_max=1000, collection_bytes_max=1000)
    connection = Connection(node)
    for line in (("HSET", "h", "f", "x" * 990), ("ZADD", "z", "1", "x" * 990), ("HINCRBY", "h", "x" * 990, "1")):
        assert b"would take" in connection.run(*line) and not node.records
    assert read(connection, "HSET", "h", "f", "x" * 900, "f", "y") == 1, "the last one counts"
    for words in (("HSET", "h", "f", "x" * 600, "g", "x" * 600), ("ZADD", "z", "1", "x" * 600, "1", "y" * 600)):
        assert b"would take" in connection.run(*words)
    for name in ("a", "b"):
        connection.run("ZADD", name, "1", name * 600)
    assert b"the sorted set would take 1200 bytes" in connection.run("ZUNIONSTORE", "d", "2", "a", "b")
    assert read(connection, "EXISTS", "d") == 0
    assert b"the value has 1001 bytes" in connection.run("ZADD", "z", "1", "x" * 1001)


def test_a_reply_that_names_one_value_many_times_is_bounded() -> None:
    connection = Connection(FakeNode())
    connection.run("HSET", "h", "f", "x" * 1_000_000)
    times = MGET_BYTES_MAX // 1_000_000 + 1
    for line in (("HMGET", "h", *["f"] * times), ("HRANDFIELD", "h", str(-times), "WITHVALUES")):
        assert connection.run(*line).startswith(b"-ERR the reply has more than 67108864 bytes")
    assert b"at most 1000000 at once" in connection.run("HRANDFIELD", "h", "-1000001")


@pytest.mark.parametrize(
    "line", ["HSET k f v", "HGETALL k", "ZADD k 1 m", "ZRANGE k 0 -1", "ZUNION 2 k other", "ZPOPMIN k"]
)
def test_what_a_quorum_refuses_is_told(line: str) -> None:
    node = FakeNode()
    node.fail[b"k"] = QuorumNotReached(2, 1)
    assert Connection(node).run(*line.split()).startswith(b"-NOQUORUM")


class Met(FakeNode):
    """What it writes meets what another node has written at the same time."""

    other: FakeNode

    def _change(self, key: bytes, change: Write | Change) -> bytes:
        self.records[key] = versions.merge(super()._change(key, change), self.other.records[key])
        return self.records[key]


@pytest.mark.parametrize(
    ("line", "elsewhere"),
    [
        ("HINCRBY k f 1", "SADD k m"),
        ("ZINCRBY k 1 m", "HSET k f 1"),
        ("APPEND k x", "ZADD k 1 m"),
        ("INCR k", "ZADD k 1 m"),
    ],
)
def test_what_was_written_beside_another_type_is_told_as_such(line: str, elsewhere: str) -> None:
    """V9: the newer type is shown, and there is no sum to answer with."""
    node, node.other = Met(), FakeNode(me=1)
    node.other.now.wall_ms += 1000
    node.other._stamp += 1000
    Connection(node.other).run(*elsewhere.split())
    assert Connection(node).run(*line.split()).startswith(b"-UNKNOWN outcome: it was written, and another type")
    assert len(versions.siblings(node.records[b"k"], node.now.wall_ms)) == 2

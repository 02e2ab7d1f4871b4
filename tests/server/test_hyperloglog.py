"""PFADD, PFCOUNT, PFMERGE against a real redis-server: the very same counts, and the very same registers."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from tests.server.fake import Connection, FakeNode, request
from tests.server.test_differential import RealRedis
from tests.server.test_differential import redis as redis_fixture

redis = redis_fixture

HEAD_BYTES = 16


@pytest.fixture
def ours() -> Connection:
    node = FakeNode()
    node.now.wall_ms = time.time_ns() // 1_000_000
    return Connection(node)


def bulk_of(reply: bytes) -> bytes:
    assert reply.startswith(b"$")
    return reply.partition(b"\r\n")[2][:-2]


@pytest.mark.parametrize("seed", range(4))
def test_the_very_same_counts_as_redis(redis: Path, ours: Connection, seed: int) -> None:
    """From a few elements to some ten thousand, in three keys that are merged into one another."""
    chance = random.Random(seed)
    theirs = RealRedis(redis)
    theirs.send(request("FLUSHALL"), 1)
    keys = [b"h1", b"h2", b"h3"]
    for step in range(120):
        elements = [chance.randbytes(chance.choice((0, 1, 3, 8, 9, 15, 33))) for _ in range(chance.choice((1, 7, 400)))]
        command = chance.choice(
            [
                [b"PFADD", chance.choice(keys), *elements],
                [b"PFADD", chance.choice(keys), *elements],
                [b"PFADD", chance.choice(keys)],
                [b"PFMERGE", *chance.choices(keys, k=chance.randint(1, 4))],
                [b"PFCOUNT", *chance.choices(keys, k=chance.randint(1, 4))],
                [b"DEL", chance.choice(keys)] if step % 40 == 0 else [b"PFCOUNT", keys[0]],
            ]
        )
        assert ours.run(*command) == theirs.send(request(*command), 1), command[:2]
        for asked in ([b"PFCOUNT", keys[step % 3]], [b"PFCOUNT", *keys]):
            assert ours.run(*asked) == theirs.send(request(*asked), 1)
    theirs.close()


def test_the_very_same_registers_as_redis(redis: Path, ours: Connection) -> None:
    theirs = RealRedis(redis)
    theirs.send(request("FLUSHALL"), 1)
    elements = [b"element %d" % number for number in range(20_000)]
    added = request("PFADD", "h", *elements)
    assert ours.send(added) == theirs.send(added, 1) == b":1\r\n"
    mine, other = bulk_of(ours.run("GET", "h")), bulk_of(theirs.send(request("GET", "h"), 1))
    assert mine[HEAD_BYTES:] == other[HEAD_BYTES:] and len(mine) == len(other) == HEAD_BYTES + 12_288
    theirs.close()


@pytest.mark.parametrize("count", [0, 1, 50, 3000])
def test_a_redis_server_takes_what_get_shows(redis: Path, ours: Connection, count: int) -> None:
    theirs = RealRedis(redis)
    ours.run("PFADD", "h", *[b"%d" % number for number in range(count)])
    theirs.send(request("SET", "h", bulk_of(ours.run("GET", "h"))), 1)
    assert theirs.send(request("PFCOUNT", "h"), 1) == ours.run("PFCOUNT", "h")
    theirs.send(request("PFADD", "h", "more"), 1)
    ours.run("PFADD", "h", "more")
    assert theirs.send(request("PFCOUNT", "h"), 1) == ours.run("PFCOUNT", "h")
    theirs.close()


def test_a_hyperloglog_is_a_string_that_cannot_be_changed_as_one(ours: Connection) -> None:
    ours.run("PFADD", "h", "x")
    assert ours.run("TYPE", "h") == b"+string\r\n"
    assert ours.run("STRLEN", "h") == b":12304\r\n"
    assert ours.run("GETRANGE", "h", "0", "3") == b"$4\r\nHYLL\r\n"
    assert ours.run("MGET", "h").startswith(b"*1\r\n$12304\r\nHYLL")
    for command in (["APPEND", "h", "x"], ["SETRANGE", "h", "0", "x"], ["INCR", "h"], ["INCRBYFLOAT", "h", "1"]):
        assert ours.run(*command).startswith(b"-WRONGTYPE Operation against a key"), command
    assert ours.run("PFCOUNT", "h") == b":1\r\n"
    assert bulk_of(ours.run("GETDEL", "h")).startswith(b"HYLL")
    assert ours.run("EXISTS", "h") == b":0\r\n"


def test_a_string_in_the_encoding_of_redis_is_a_string(ours: Connection) -> None:
    ours.run("PFADD", "h", "x")
    ours.run("SET", "copy", bulk_of(ours.run("GET", "h")))
    for command in ("PFADD", "PFCOUNT", "PFMERGE"):
        assert ours.run(command, "copy") == b"-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n"


def test_an_expiry_stays_with_it(ours: Connection) -> None:
    ours.run("PFADD", "h", "x")
    assert ours.run("EXPIRE", "h", "100") == b":1\r\n"
    ours.run("PFADD", "h", "y")
    assert ours.run("TTL", "h") == b":100\r\n"
    assert ours.run("PERSIST", "h") == b":1\r\n"
    assert ours.run("TTL", "h") == b":-1\r\n"


def test_explain_tells_about_how_many(ours: Connection) -> None:
    ours.run("PFADD", "h", "x", "y")
    assert b"about 2" in ours.run("RW.EXPLAIN", "h")

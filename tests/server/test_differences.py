"""Every difference from Redis that is there on purpose, and a short form of the comparison with it (compare_replies.py)."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.server.compare_replies import DIFFERENCES, Difference, Peer, Step, compare, explained, split_replies
from tests.server.fake import Connection, FakeNode, request
from tests.server.test_differential import redis as redis_fixture

redis = redis_fixture


class FakePeer(Peer):
    """A node without its cluster."""

    def __init__(self) -> None:
        node = FakeNode()
        node.now.wall_ms = time.time_ns() // 1_000_000
        self._connection = Connection(node)

    def send(self, commands: list[list[bytes]]) -> list[bytes]:
        return list(split_replies(self._connection.send(b"".join(request(*command) for command in commands))))

    def close(self) -> None: ...


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: b" ".join(each.command)[:30].decode())
def test_each_difference_is_as_it_is_listed(redis: Path, difference: Difference) -> None:
    set_up = [[b"FLUSHALL"], [b"SET", b"a", b"1"]]
    command = list(difference.command)
    with FakePeer() as ours, Peer(str(redis)) as theirs:
        theirs.send(set_up)
        ours.send(set_up[1:])
        (mine,) = ours.send([command])
        assert mine.startswith(difference.ours)
        if not difference.sent:
            assert mine[:1] == b"-"
            return
        (other,) = theirs.send([command])
        assert other.startswith(difference.theirs)
        assert mine != other
        assert explained(Step(command, difference), mine, other)


def test_a_difference_that_is_not_listed_is_noticed() -> None:
    assert not explained(Step([b"GET", b"a"]), b"$1\r\n1\r\n", b"$1\r\n2\r\n")
    assert not explained(Step([b"DBSIZE"]), b":2\r\n", b":1\r\n")
    assert not explained(Step([b"KEYS", b"*"]), b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\nb\r\n")
    page = b"*2\r\n$1\r\n0\r\n*1\r\n"
    assert not explained(Step([b"SCAN", b"0"]), page + b"$1\r\na\r\n", page + b"$1\r\nb\r\n")
    assert not explained(Step([b"RANDOMKEY"]), b"$1\r\na\r\n", b"$-1\r\n")
    assert not explained(Step([b"INFO"], Difference("", (b"INFO",), b"")), b":1\r\n", b"$0\r\n\r\n")


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_same_replies_as_redis_in_everything_served(redis: Path, protocol: int) -> None:
    counted: Counter[str] = Counter()
    with FakePeer() as ours, Peer(str(redis)) as theirs:
        theirs.send([[b"FLUSHALL"]])
        for peer in (ours, theirs):
            peer.send([[b"HELLO", b"%d" % protocol]])
        assert compare([ours], [theirs], random.Random(protocol), 5000, counted) == []
    assert len(counted) > 40

"""One reply for all who ask the same in one turn (server/shown.py)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from tests.server.fake import Connection, FakeNode, request

from ringwise.core import ranges
from ringwise.server.clients import Clients

READS = (
    "HGET h f1", "HGET h f2", "HGETALL h", "HKEYS h", "HVALS h", "HLEN h", "HEXISTS h f1", "HSTRLEN h f1",
    "SMEMBERS s", "SCARD s", "SISMEMBER s m1", "SMISMEMBER s m1 m2",
    "ZRANGE z 0 1", "ZRANGE z 0 1 WITHSCORES", "ZRANGE z 0 1 REV", "ZREVRANGE z 0 1", "ZRANK z m1", "ZREVRANK z m1",
    "ZSCORE z m1", "ZMSCORE z m1 m9", "ZCARD z", "ZCOUNT z 1 2", "ZRANGE s 0 1", "HGET s f1", "SMEMBERS h",
    "HLEN none", "SCARD none",
)  # fmt: skip
WRITES = (
    "HSET h f1 {}",
    "HSET h f2 {}",
    "HDEL h f1",
    "SADD s m{}",
    "SREM s m1",
    "ZADD z {} m1",
    "ZADD z {} m2",
    "DEL h",
    "EXPIRE z 1",
)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The ranges that were looked up."""
    found: list[bytes] = []
    of = ranges.Range.of

    def look(wanted: ranges.Range, all_: Any) -> Any:
        found.append(wanted.start)
        return of(wanted, all_)

    monkeypatch.setattr(ranges.Range, "of", look)
    return found


def connections(count: int) -> list[Connection]:
    node, clients = FakeNode(), Clients(port=7379, process_id=1, started_ms=1)
    return [Connection(node, clients) for _ in range(count)]


def in_one_turn(many: list[Connection], script: Iterable[tuple[int, str]]) -> list[bytes]:
    """What each connection is answered to its commands."""
    for who, words in script:
        many[who].session.receive(request(*words.split()))
    many[0].node.end_turn()
    return [each.settle() for each in many]


def test_fifty_who_ask_for_one_page_get_one_reply(looked: list[bytes]) -> None:
    many = connections(50)
    many[0].run("ZADD", "z", *[word for at in range(100) for word in (str(at), f"m{at}")])
    replies = set(in_one_turn(many, [(who, "ZRANGE z 0 9 WITHSCORES") for who in range(50)]))
    assert len(replies) == 1 and replies.pop().startswith(b"*20\r\n$2\r\nm0\r\n$1\r\n0\r\n")
    assert looked == [b"0"]


def test_nothing_is_kept_when_the_turn_has_ended(looked: list[bytes]) -> None:
    """A state that is kept keeps all that has changed since: what a node that only takes writes would gather without end."""
    many = connections(1)
    many[0].run("ZADD", "z", *[word for at in range(1000) for word in (str(at), f"m{at}")])
    many[0].run("ZRANGE", "z", "0", "0")
    many[0].run("ZADD", "z", "7", "m7")
    for words in ("ZRANGE z 0 0", "ZRANK z m1", "ZADD z 1 m1 2 m2"):
        many[0].run(*words.split())
        kept = many[0].session.clients.shown
        assert (kept._looked, kept._found, kept._answered, kept._words) == (None, None, None, [])
    many[0].session.receive(request("ZRANGE", "z", "0", "0"))
    many[0].session.closed()  # and nobody reads the reply
    many[0].node.end_turn()
    assert kept._looked is None
    many = connections(1)
    many[0].run("ZADD", "z", "7", "m7")
    many[0].run("ZRANGE", "z", "0", "0")
    assert looked == [b"0"] * 4


@pytest.mark.parametrize(
    ("between", "as_well"),
    [
        (lambda many: many[0].session.receive(request("ZADD", "z", "0", "first")), b"*1\r\n$5\r\nfirst\r\n"),
        (lambda many: many[1].session.set_protocol(3), b"*1\r\n$1\r\na\r\n"),
        (lambda many: setattr(many[1].node.now, "wall_ms", many[1].node.now.wall_ms + 1), b"*1\r\n$1\r\na\r\n"),
    ],
    ids=["another state", "another protocol", "another moment"],
)
def test_what_is_not_the_same_is_looked_up(
    looked: list[bytes], between: Callable[[list[Connection]], object], as_well: bytes
) -> None:
    many = connections(2)
    many[0].run("ZADD", "z", "1", "a", "2", "b")
    many[0].session.receive(request("ZRANGE", "z", "0", "0"))
    between(many)
    many[1].session.receive(request("ZRANGE", "z", "0", "0"))
    many[0].node.end_turn()
    assert [many[0].take()[:11], many[1].take()] == [b"*1\r\n$1\r\na\r\n", as_well]
    assert looked == [b"0", b"0"]


def test_what_has_expired_in_between_is_not_shown() -> None:
    (one,) = connections(1)
    for words in ("HSET h f 1", "EXPIRE h 1"):
        one.run(*words.split())
    one.session.receive(request("HGET", "h", "f"))
    one.node.now.wall_ms += 2_000
    one.session.receive(request("HLEN", "h"))
    assert one.settle() == b"$1\r\n1\r\n:0\r\n"


def test_what_chance_decides_is_asked_every_time() -> None:
    many = connections(40)
    many[0].run("SADD", "s", *map(str, range(50)))
    many[0].run("HSET", "h", *[str(at) for name in range(50) for at in (name, name)])
    many[0].run("ZADD", "z", *[str(at) for name in range(50) for at in (name, name)])
    for words in ("SRANDMEMBER s", "SRANDMEMBER s 3", "HRANDFIELD h", "ZRANDMEMBER z 2"):
        assert len(set(in_one_turn(many, [(who, words) for who in range(40)]))) > 1


def test_random_reads_and_writes_are_answered_as_if_each_were_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        shared, alone = connections(4), connections(4)
        for each in (shared[3], alone[3]):
            each.run("HELLO", "3")
        for turn in range(30):
            script: list[tuple[int, str]] = []
            for _ in range(rng.choice((1, 5, 20))):
                words = rng.choice(WRITES).format(rng.randrange(4)) if rng.random() < 0.1 else rng.choice(READS)
                script += [(rng.randrange(4), words) for _ in range(rng.choice((1, 1, 3)))]
            told = in_one_turn(shared, script)
            with monkeypatch.context() as without:
                without.setattr("ringwise.server.shown.Shown.reply", lambda *_: None)
                without.setattr(
                    "ringwise.server.shown.Shown.of", lambda _, record, view, wall_ms: view(record, wall_ms)
                )
                assert in_one_turn(alone, script) == told, (seed, turn)
            if rng.random() < 0.1:
                for node in (shared[0].node, alone[0].node):
                    node.now.wall_ms += 700

"""A connection: replies in order whatever the order of results, one write a turn, and what makes a command wait (B2)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.fake import Connection, FakeNode, request

from ringwise.core.errors import QuorumNotReached, UnknownOutcome
from ringwise.core.versions import Write
from ringwise.server.session import FLUSH_BYTES_HIGH, WINDOW_MAX, WINDOW_MIN
from ringwise.wire.replies import bulk

BIG = b"x" * 20_000


def test_a_pipeline_is_answered_with_one_write() -> None:
    client = Connection(FakeNode())
    assert client.send(b"PING\r\n" + request("SET", "k", "v") + request("get", "k")) == b"+PONG\r\n+OK\r\n$1\r\nv\r\n"
    assert client.writes == 1


def test_replies_leave_in_the_order_of_requests() -> None:
    node = FakeNode(delay=True)
    client = Connection(node)
    client.send(request("SET", "a", "1") + request("GET", "a") + request("ECHO", "e"))
    node.release(1)  # the GET first
    assert client.settle() == b""
    node.release()
    assert client.settle() == b"+OK\r\n$1\r\n1\r\n$1\r\ne\r\n"


def test_the_ready_prefix_does_not_wait_for_the_rest() -> None:
    node = FakeNode(delay=True)
    client = Connection(node)
    client.send(request("SET", "a", "1") + request("SET", "b", "2"))
    client.send(request("GET", "a"))
    node.release(0)
    assert client.settle() == b"+OK\r\n"
    node.release(1)
    assert client.settle() == b""
    node.release(0)
    assert client.settle() == b"+OK\r\n$1\r\n1\r\n"


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_order_of_results_gives_the_same_replies(batches: list[int], rng: random.Random) -> None:
    node = FakeNode(delay=True)
    client = Connection(node)
    number, sent, got = 0, b"", b""
    for batch in batches:
        data = b""
        for _ in range(batch):
            number += 1
            data += request("ECHO" if rng.random() < 0.2 else "GET", key := f"{number}")
            value = key.encode()
            node._write(value, Write(value=value))
            sent += bulk(value)
        got += client.send(data)
        while node.waiting and rng.random() < 0.7:
            node.release(rng.randrange(len(node.waiting)))
            got += client.settle()
    while node.waiting:
        node.release(rng)
        got += client.settle()
    assert got == sent
    assert not client.session.busy()


def test_b2_a_command_waits_for_an_unfinished_update_of_its_key() -> None:
    node = FakeNode(delay=True)
    client = Connection(node)
    node.put(b"k", b"old", client.session.level, client.session._rows, 0)  # type: ignore[arg-type]
    node.waiting.clear()
    client.send(request("DEL", "k") + request("SET", "k", "new") + request("GET", "k"))
    assert node.log[1:] == [("delete", b"k", "quorum")]
    assert client.session.busy() and not client.reading
    node.release()
    assert client.settle() == b":1\r\n"
    assert client.reading
    node.release()
    assert client.settle() == b"+OK\r\n$3\r\nnew\r\n"


def test_b2_other_keys_go_on_and_a_command_on_many_keys_waits_for_each() -> None:
    node = FakeNode(delay=True)
    client = Connection(node)
    client.send(request("DEL", "k") + request("SET", "other", "1") + request("RW.AT", "one", "MGET", "a", "k"))
    client.send(request("GET", "other"))
    assert [key for _, key, _ in node.log] == [b"k", b"other"]
    assert client.finish() == b":0\r\n+OK\r\n*2\r\n$-1\r\n$-1\r\n$1\r\n1\r\n"


def test_an_update_that_fails_lets_the_next_command_go() -> None:
    node = FakeNode()
    node.fail[b"k"] = QuorumNotReached(needed=2, acknowledged=1)
    client = Connection(node)
    replies = client.send(request("DEL", "k") + request("GET", "k"))
    assert replies.count(b"-NOQUORUM 1 of 2 needed owners answered") == 2


def test_failures_are_told_in_place() -> None:
    node = FakeNode()
    node.fail[b"bad"] = UnknownOutcome(needed=2, acknowledged=1)
    client = Connection(node)
    replies = client.send(request("SET", "a", "1") + request("SET", "bad", "1") + request("GET", "a")).split(b"\r\n")
    assert replies[0] == b"+OK"
    assert replies[1].startswith(b"-UNKNOWN outcome: 1 of 2")
    assert replies[2:] == [b"$1", b"1", b""]


def test_a_change_of_protocol_waits_for_what_came_before() -> None:
    """The nulls of replies that were asked for under RESP2 are RESP2's."""
    node = FakeNode(delay=True)
    client = Connection(node)
    client.send(request("GET", "a") + request("HELLO", "3") + request("GET", "a"))
    node.release()
    first = client.settle()
    assert first.startswith(b"$-1\r\n%8\r\n")
    node.release()
    assert client.settle() == b"_\r\n"


def test_the_window_bounds_what_is_under_way_and_grows_while_replies_are_small() -> None:
    node = FakeNode(delay=True)
    client = Connection(node)
    count = 5 * WINDOW_MAX
    client.send(request("GET", "k") * count)
    assert len(node.waiting) == WINDOW_MIN and not client.reading
    replies, most = b"", 0
    while node.waiting:
        most = max(most, len(node.waiting))
        node.release()
        replies += client.settle()
    assert replies == b"$-1\r\n" * count
    assert most == WINDOW_MAX
    assert client.reading


def test_large_replies_narrow_the_window() -> None:
    node = FakeNode()
    client = Connection(node)
    client.run("SET", "k", BIG)
    client.send(request("GET", "nothing") * 3 * WINDOW_MAX)
    assert client.session._window == WINDOW_MAX
    client.send(request("GET", "k") * 2 * WINDOW_MAX)
    assert client.session._window == WINDOW_MIN
    assert WINDOW_MIN * len(BIG) < 4 * FLUSH_BYTES_HIGH


def test_nothing_is_begun_for_a_client_that_does_not_read() -> None:
    node = FakeNode()
    client = Connection(node)
    client.session.pause_writing()
    assert client.send(request("GET", "k") * 10) == b""
    assert node.log == [] and not client.reading
    client.session.resume_writing()
    assert client.settle() == b"$-1\r\n" * 10
    assert client.reading


def test_quit_answers_what_came_before_and_nothing_after() -> None:
    node = FakeNode(delay=True)
    client = Connection(node)
    client.send(request("GET", "k") + request("QUIT") + request("SET", "k", "v"))
    assert not client.is_closed
    node.release()
    assert client.settle() == b"$-1\r\n+OK\r\n"
    assert client.is_closed
    assert [operation for operation, _, _ in node.log] == ["get"]


def test_garbage_closes_the_connection_after_what_came_before() -> None:
    node = FakeNode(delay=True)
    client = Connection(node)
    client.send(request("DEL", "k") + request("GET", "k") + b"*1\r\n:5\r\n" + request("PING"))
    assert not client.is_closed
    assert client.finish() == b":0\r\n$-1\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    assert client.is_closed


def test_a_connection_that_is_gone_is_answered_nothing() -> None:
    node = FakeNode(delay=True)
    client = Connection(node)
    client.send(request("DEL", "k") + request("GET", "k"))
    client.session.closed()
    node.release()
    assert client.settle() == b""
    assert not client.session.busy() and client.session.clients.sessions == {}
    client.session.receive(request("GET", "k"))
    assert len(node.log) == 1


@pytest.mark.parametrize("name", ["GET", "get", "Get"])
def test_limits_are_named(name: str) -> None:
    client = Connection(FakeNode())
    assert client.run(name, "k" * 256) == b"$-1\r\n"
    assert client.run(name, "k" * 257) == b"-ERR the key has 257 bytes, the limit is 256; use a shorter key\r\n"
    assert client.run(name, "") == b"-ERR the key is empty; a key has 1 to 256 bytes\r\n"


@pytest.mark.parametrize("command", ["SET k", "MSET k", "RW.PUT k", "RW.AT all SET k"])
def test_a_value_too_long_is_refused_and_the_connection_goes_on(command: str) -> None:
    client = Connection(FakeNode())
    limit = 1024 * 1024
    reply = client.run(*command.split(), b"x" * (limit + 1))
    assert reply == b"-ERR the value has 1048577 bytes, the limit is 1048576; split it over several keys\r\n"
    assert not client.run(*command.split(), b"x" * limit).startswith(b"-")

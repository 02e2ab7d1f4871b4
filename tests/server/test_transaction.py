"""MULTI: what differs from Redis on purpose, and what waits for what."""

from __future__ import annotations

import pytest
from tests.server.fake import Connection, FakeNode, request

from ringwise.core.ring import slot_of
from ringwise.server.clients import Clients
from ringwise.server.transaction import COMMANDS_MAX, REPLY_BYTES_MAX


def test_the_replies_of_a_batch_are_bounded_together() -> None:
    """Redis would build as many megabytes as were asked for; the writes among them are told for what they are."""
    client = Connection(FakeNode())
    client.run("SET", "k", b"x" * 1024 * 1024)
    commands = [request("GET", "k")] * 100 + [request("SET", "j", "v")]
    reply = client.send(request("MULTI") + b"".join(commands) + request("EXEC"))
    assert len(reply) < REPLY_BYTES_MAX + 100_000
    assert reply.count(b"ERR the replies of this batch have more than 67108864 bytes") == 100 - 63
    assert reply.endswith(b"+OK\r\n")


def test_a_command_waits_for_the_one_before_it_on_the_same_key_and_for_no_other() -> None:
    node = FakeNode(delay=True)
    connection = Connection(node)
    commands = [
        ["MULTI"],
        ["SET", "k", "1"],
        ["APPEND", "k", "2"],
        ["GET", "k"],
        ["GET", "other"],
        ["EXEC"],
        ["GET", "k"],
    ]
    connection.send(b"".join(request(*command) for command in commands))
    assert [entry[:2] for entry in node.log] == [("write", b"k"), ("append", b"k")]
    assert connection.finish().endswith(b"*4\r\n+OK\r\n:2\r\n$2\r\n12\r\n$-1\r\n$2\r\n12\r\n")
    assert [entry[:2] for entry in node.log[2:]] == [("get", b"k"), ("get", b"other"), ("get", b"k")]


def test_an_update_sent_before_the_batch_is_done_before_it() -> None:
    node = FakeNode(delay=True)
    connection = Connection(node)
    connection.send(
        b"".join(request(*each) for each in [["APPEND", "k", "1"], ["MULTI"], ["APPEND", "k", "2"], ["EXEC"]])
    )
    assert [entry[0] for entry in node.log] == ["append"]
    assert connection.finish() == b":1\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n"


def test_what_changes_the_connection_cannot_be_part_of_a_batch() -> None:
    connection = Connection(FakeNode())
    connection.run("MULTI")
    assert connection.run("HELLO", "3").startswith(b"-ERR HELLO inside MULTI is not allowed")
    assert connection.run("EXEC").startswith(b"-EXECABORT")
    connection.run("MULTI")
    assert connection.run("RESET") == b"+RESET\r\n"
    assert connection.run("EXEC") == b"-ERR EXEC without MULTI\r\n"


def test_what_waits_for_others_has_its_place_in_a_batch() -> None:
    node = FakeNode()
    connection = Connection(node)
    connection.run("SET", "gone", "1")
    slot = str(slot_of(b"k"))
    batch = (
        ["FLUSHDB"],
        ["SET", "k", "1"],
        ["RW.AT", "one", "KEYS", "*"],
        ["CLUSTER", "COUNTKEYSINSLOT", slot],
        ["WAIT", "1", "0"],
        ["DBSIZE"],
        ["DEL", "k"],
        ["DBSIZE"],
    )
    for command in (["MULTI"], *batch, ["EXEC"]):
        reply = connection.run(*command)
    assert reply == b"*8\r\n+OK\r\n+OK\r\n*1\r\n$1\r\nk\r\n:1\r\n:1\r\n:1\r\n:1\r\n:0\r\n"


def test_levels_hold_inside_a_batch() -> None:
    node = FakeNode()
    connection = Connection(node)
    for command in (["MULTI"], ["RW.AT", "one", "SET", "k", "1"], ["RW.CONSISTENCY", "all"], ["GET", "k"], ["EXEC"]):
        reply = connection.run(*command)
    assert reply == b"*3\r\n+OK\r\n+OK\r\n$1\r\n1\r\n"
    assert [entry[2] for entry in node.log] == ["one", "all"]


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (["RW.AT", "most", "GET", "k"], b"-ERR unknown consistency level 'most'"),
        (["RW.AT", "r=99", "GET", "k"], b"-ERR consistency level r=99 needs 99 owners"),
        (["RW.AT", "one", "FLY", "k"], b"-ERR unknown command 'FLY'"),
        (["RW.AT", "one", "GET"], b"-ERR wrong number of arguments for 'get' command"),
        (["RW.AT", "one", "MEMORY", "USAGE"], b"-ERR"),
        (["RW.AT", "one", "EXEC"], b"-ERR RW.AT takes a command on keys, and EXEC is none"),
        (["RW.AT", "one", "RW.AT", "one", "GET", "k"], b"-ERR RW.AT takes a command on keys, and RW.AT is none"),
    ],
)
def test_what_stands_in_rw_at_is_checked_when_it_is_queued(command: list[str], refusal: bytes) -> None:
    node = FakeNode()
    connection = Connection(node)
    for each in (["MULTI"], ["SET", "k", "1"]):
        connection.run(*each)
    assert connection.run(*command).startswith(refusal)
    assert connection.run("EXEC").startswith(b"-EXECABORT")
    assert not node.log


def test_a_batch_is_bounded_and_can_be_switched_off() -> None:
    connection = Connection(FakeNode())
    connection.run("MULTI")
    for _ in range(COMMANDS_MAX):
        connection.session.queue.add([b"PING"])  # type: ignore[union-attr]
    assert b"at most 10000 commands" in connection.run("PING")
    assert connection.run("EXEC").startswith(b"-EXECABORT")
    refusing = Connection(FakeNode(), Clients(multi=False))
    assert refusing.run("MULTI").startswith(b"-ERR MULTI is switched off on this node (rw.multi no)")


def test_watch_is_refused_with_what_to_do_instead() -> None:
    assert b"write with its CONTEXT" in Connection(FakeNode()).run("WATCH", "k")


def test_commands_that_are_not_served_say_why() -> None:
    connection = Connection(FakeNode())
    assert connection.run("SETNX", "k", "v").startswith(b"-ERR SETNX is not served yet: it comes with linearizable")
    assert connection.run("lpush", "k", "v").startswith(b"-ERR LPUSH is not served: it needs one order")
    assert connection.run("nonsense").startswith(b"-ERR unknown command 'nonsense'")

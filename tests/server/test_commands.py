"""Commands one by one: what Redis does not have, and what it answers in its own way."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from tests.server.fake import MEMBERS, Connection, FakeNode, request

from ringwise.core.errors import QuorumNotReached, UnknownOutcome
from ringwise.core.levels import ONE
from ringwise.core.topology import Topology
from ringwise.core.versions import Context, Write
from ringwise.server.commands import TABLE


class Client:
    """Commands as words, replies as Python values; RESP3 unless told."""

    def __init__(self, node: FakeNode | None = None, protocol: int = 3) -> None:
        self.node = node or FakeNode()
        self.connection = Connection(self.node)
        if protocol == 3:
            self.connection.run("HELLO", "3")

    def __call__(self, line: str, *more: bytes | str) -> Any:
        return self.parse(self.connection.run(*line.split(), *more))

    def parse(self, data: bytes) -> Any:
        reader = hiredis.Reader(replyError=str)  # type: ignore[arg-type]  # an error is just its text
        reader.feed(data)
        reply = reader.gets()
        assert reader.gets() is False
        return reply


def concurrent(node: FakeNode, key: bytes, *values: bytes) -> None:
    """Writers who saw nothing of one another."""
    for value in values:
        node._write(key, Write(value=value, context=Context()))


class TestSiblings:
    def test_what_a_plain_get_hides(self) -> None:
        client = Client()
        concurrent(client.node, b"k", b"red", b"blue")
        assert client("GET k") == b"blue"  # V6: the newest
        reply = client("RW.GET k")
        assert [sibling[b"value"] for sibling in reply[b"siblings"]] == [b"blue", b"red"]
        merged = client("RW.PUT k purple CONTEXT", reply[b"context"])
        assert merged[b"siblings"] == 1 and merged[b"context"]
        assert [sibling[b"value"] for sibling in client("RW.GET k")[b"siblings"]] == [b"purple"]

    def test_that_a_stand_in_counted_is_told(self) -> None:
        client = Client()
        assert b"stand_in" not in client("RW.PUT k v") and b"stand_in" not in client("RW.GET k")
        client.node.sloppy = True
        assert client("RW.PUT k v")[b"stand_in"] == client("RW.GET k")[b"stand_in"] == 1
        assert client("SET k v") == b"OK" and client("GET k") == b"v"
        assert client("RW.DEL k")[b"stand_in"] == 1

    def test_a_put_with_an_old_context_makes_siblings_and_is_given_no_context_that_would_cover_them(self) -> None:
        client = Client()
        client("SET k old")
        context = client("RW.GET k")[b"context"]
        client("SET k theirs")
        reply = client("RW.PUT k mine CONTEXT", context)
        assert (reply[b"siblings"], reply[b"context"]) == (2, None)

    def test_metadata_is_kept(self) -> None:
        client = Client()
        client('RW.PUT k {"a":1} TYPE application/json FLAGS 7 EX 10')
        (sibling,) = client("RW.GET k")[b"siblings"]
        assert (sibling[b"type"], sibling[b"flags"], sibling[b"ttl_ms"]) == (b"application/json", 7, 10_000)
        client.node.now.wall_ms += 10_000
        assert client("RW.GET k")[b"siblings"] == [] and client("GET k") is None

    def test_resp2_is_flat(self) -> None:
        client = Client(protocol=2)
        client("SET k v")
        reply = client("RW.GET k")
        assert reply[0] == b"siblings" and reply[2] == b"context"
        assert reply[1][0][:2] == [b"value", b"v"]

    def test_a_key_that_was_never_there_has_a_context_too(self) -> None:
        client = Client()
        reply = client("RW.GET k")
        assert reply[b"siblings"] == []
        assert client("RW.PUT k v CONTEXT", reply[b"context"])[b"siblings"] == 1

    def test_delete_removes_what_its_context_has_seen(self) -> None:
        client = Client()
        client("SET k seen")
        context = client("RW.GET k")[b"context"]
        client("SET k unseen")
        assert client("RW.DEL k CONTEXT", context)[b"siblings"] == 1
        assert client("RW.DEL k")[b"siblings"] == 0
        assert client("GET k") is None

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("RW.PUT k v CONTEXT rubbish", "BADCONTEXT "),
            ("RW.DEL k CONTEXT rubbish", "BADCONTEXT "),
            ("RW.PUT k v FLAGS 4294967296", "ERR flags are a number from 0 to 4294967295"),
            ("RW.PUT k v FLAGS x", "ERR value is not an integer"),
            ("RW.PUT k v EX 0", "ERR invalid expire time in 'rw.put' command"),
            ("RW.PUT k v EX 1 PX 1", "ERR syntax error"),
            ("RW.PUT k v TYPE", "ERR syntax error"),
            ("RW.PUT k v NX 1", "ERR syntax error"),
            ("RW.DEL k CONTEXT", "ERR syntax error"),
            ("RW.PUT k v TYPE " + "x" * 256, "ERR a content type has at most 255"),
        ],
    )
    def test_bad_options(self, line: str, error: str) -> None:
        client = Client()
        assert client(line).startswith(error)
        assert client.node.records == {}

    def test_a_context_of_another_key_is_refused(self) -> None:
        client = Client()
        client("SET a 1")
        assert client("RW.PUT b 1 CONTEXT", client("RW.GET a")[b"context"]).startswith("BADCONTEXT")


class TestLevels:
    def test_of_the_connection_and_of_one_command(self) -> None:
        client = Client()
        assert client("RW.CONSISTENCY") == b"quorum"
        assert client("rw.consistency R=1,w=3") == b"OK"
        client("SET k v")
        assert client("RW.AT strong GET k") == b"v"
        client("RW.AT one MGET k j")
        client("GET k")
        assert [level for _, _, level in client.node.log] == ["r=1,w=3", "strong", "one", "one", "r=1,w=3"]
        client("RESET")
        assert client("RW.CONSISTENCY") == b"quorum"

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("RW.CONSISTENCY most", "ERR unknown consistency level 'most'"),
            ("RW.AT most GET k", "ERR unknown consistency level 'most'"),
            ("RW.CONSISTENCY r=9", "ERR consistency level r=9 needs 9 owners and the key has 3; ask for at most 3"),
            ("RW.CONSISTENCY r=1,w=4", "ERR consistency level r=1,w=4 needs 4 owners"),
            ("RW.AT w=4 SET k v", "ERR consistency level w=4 needs 4 owners"),
            ("RW.AT one PING", "ERR RW.AT takes a command on keys, and PING is none"),
            ("RW.AT one RW.AT one GET k", "ERR RW.AT takes a command on keys, and RW.AT is none"),
            ("RW.AT one GET", "ERR wrong number of arguments for 'get' command"),
            ("RW.AT one NOPE k", "ERR unknown command 'NOPE'"),
            ("RW.AT one", "ERR wrong number of arguments for 'rw.at' command"),
        ],
    )
    def test_mistakes(self, line: str, error: str) -> None:
        assert Client()(line).startswith(error)


class TestSeveralKeys:
    def test_partly_written_is_no_refusal(self) -> None:
        node = FakeNode()
        node.fail[b"bad"] = QuorumNotReached(needed=2, acknowledged=1)
        client = Client(node)
        assert client("MSET a 1 bad 2 c 3").startswith(
            "UNKNOWN outcome: 2 of 3 keys were written, of the others: NOQUORUM"
        )
        assert client("DEL bad a").startswith("UNKNOWN outcome: 1 of 2 keys were written")
        assert client("MSET bad 1").startswith("NOQUORUM")
        assert client("MGET a bad").startswith("NOQUORUM") and client("EXISTS bad").startswith("NOQUORUM")
        node.fail[b"worse"] = UnknownOutcome(needed=2, acknowledged=1)
        assert client("MSET bad 1 worse 2").startswith("UNKNOWN outcome: 1 of 2 needed")

    def test_a_limit_is_checked_before_anything_is_written(self) -> None:
        client = Client()
        assert client("MSET a 1", "k" * 257, "2").startswith("ERR the key has 257 bytes")
        assert client("DEL a", "k" * 257).startswith("ERR the key has 257 bytes")
        assert client.node.log == []

    def test_one_reply_has_a_limit_however_short_the_request(self) -> None:
        client = Client()
        client("SET k", b"v" * 1024 * 1024)
        assert client("MGET", *["k"] * 64) == [b"v" * 1024 * 1024] * 64
        assert client("MGET", *["k"] * 100_000).startswith("ERR the values have more than 67108864 bytes")

    def test_set_nx_says_why_not(self) -> None:
        client = Client()
        assert "needs a linearizable key" in client("SET k v NX EX 10")
        assert client.node.log == []


class TestWait:
    def test_it_waits_for_the_writes_before_it(self) -> None:
        node = FakeNode(delay=True)
        client = Connection(node)
        client.send(request("SET", "a", "1") + request("WAIT", "2", "0") + request("GET", "a"))
        assert [operation for operation, _, _ in node.log] == ["write"]
        assert client.finish() == b"+OK\r\n:2\r\n$1\r\n1\r\n"
        assert [operation for operation, _, _ in node.log] == ["write", "get", "get"]

    def test_what_the_level_has_already_shown_costs_nothing(self) -> None:
        client = Client()
        client("SET k v")
        assert client("WAIT 1 100") == 1
        assert [operation for operation, _, _ in client.node.log] == ["write"]

    def test_more_is_read_and_repaired_first(self) -> None:
        client = Client()
        client("MSET a 1 b 2")
        assert client("WAIT 2 100") == 2
        assert client.node.log[2:] == [("get", b"a", "wait"), ("get", b"b", "wait")]
        client("WAIT 2 100")
        assert client.node.log[4:] == [("get", b"b", "wait")]

    def test_more_than_there_are(self) -> None:
        client = Client()
        client("SET k v")
        assert client("WAIT 9 0") == 2

    def test_a_replica_that_is_away_is_not_counted(self) -> None:
        client = Client()
        client("SET k v")
        client.node.fail_level["wait"] = QuorumNotReached(needed=3, acknowledged=2)
        assert client("WAIT 2 0") == 1

    def test_its_time_is_kept(self) -> None:
        """What is certain by then is answered, and the owners that answer later change nothing."""
        node = FakeNode(delay=True)
        client = Connection(node)
        client.send(request("SET", "k", "v"))
        assert client.finish() == b"+OK\r\n"
        assert client.run("WAIT", "2", "50") == b""
        node.pass_time(49)
        assert client.settle() == b""
        node.pass_time(1)
        assert client.settle() == b":1\r\n"
        assert client.finish() == b""
        client.run("WAIT", "2", "50")  # the write is still to be accounted for
        assert client.finish() == b":2\r\n"
        node.pass_time(50)
        assert client.settle() == b""

    def test_the_weakest_write_counts(self) -> None:
        """At `one`, a read of two owners may miss the one that has the write: R + W > N asks for all three."""
        client = Client()
        client("RW.AT one SET weak v")
        client("SET k v")
        client.node.fail_level["wait"] = QuorumNotReached(needed=3, acknowledged=2)
        assert client.connection.session.write_levels[-1] == ONE
        assert client("WAIT 1 0") == 0
        assert len(client.node.log) == 2 + 2

    def test_of_more_writes_than_are_remembered_their_own_replies_count(self) -> None:
        client = Client()
        for number in range(67):
            client(f"SET k{number} v")
        for _ in range(2):
            assert client("WAIT 2 0") == 1  # k0 is forgotten, and nobody knows who holds it
        assert "wait" not in {level for _, _, level in client.node.log}
        client("SET k v")
        assert client("WAIT 2 0") == 2
        assert client.node.log[-1] == ("get", b"k", "wait")

    def test_as_many_writes_as_are_remembered_are_read(self) -> None:
        client = Client()
        for number in range(64):
            client(f"SET k{number} v")
        assert client("WAIT 2 0") == 2
        assert [level for _, _, level in client.node.log].count("wait") == 64

    def test_without_a_write_all_that_are_up(self) -> None:
        client = Client()
        assert client("WAIT 1 0") == 2
        client.node.down.add(MEMBERS[1].id)
        assert client("WAIT 1 0") == 1

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("WAIT x 1", "ERR value is not an integer or out of range"),
            ("WAIT 1 x", "ERR timeout is not an integer or out of range"),
            ("WAIT 1 -1", "ERR timeout is negative"),
        ],
    )
    def test_mistakes(self, line: str, error: str) -> None:
        assert Client()(line) == error


class TestConnection:
    def test_hello(self) -> None:
        client = Client(protocol=2)
        assert client("HELLO")[4:6] == [b"proto", 2]
        assert client("HELLO 3 SETNAME me")[b"proto"] == 3
        assert client("CLIENT GETNAME") == b"me"
        assert client("HELLO 3 AUTH default secret").startswith("ERR AUTH was sent, but this node has no users")
        assert client("HELLO 2 SETNAME other AUTH a b").startswith("ERR AUTH") and client("CLIENT GETNAME") == b"me"
        assert client("HELLO 3 SETNAME").startswith("ERR Syntax error in HELLO option")

    def test_clients_are_listed(self) -> None:
        client = Client()
        client("CLIENT SETINFO LIB-NAME redis-py")
        line = client("CLIENT LIST").decode()
        assert line == client("CLIENT INFO").decode()
        fields = dict(field.split("=") for field in line.split())
        assert (fields["id"], fields["addr"], fields["lib-name"], fields["cmd"]) == (
            "1",
            "127.0.0.1:50000",
            "redis-py",
            "client",
        )
        assert client("CLIENT LIST ID 1 2").count(b"id=") == 1
        assert client("CLIENT LIST TYPE replica") == b""
        assert client("CLIENT TRACKING off") == client("CLIENT NO-TOUCH on") == b"OK"
        assert client("CLIENT TRACKING on").startswith("ERR client-side caching is not served")

    def test_info_and_config(self) -> None:
        client = Client()
        info = client("INFO").decode()
        for line in (
            "redis_version:7.2.0",
            "loading:0",
            "role:master",
            "cluster_enabled:1",
            "node:n0",
            "formed:1",
            "members:3",
        ):
            assert f"\r\n{line}\r\n" in info
        assert client("INFO replication cluster").decode().count("# ") == 2
        assert client("CONFIG GET save appendonly") == {b"save": b"", b"appendonly": b"yes"}
        assert client("CONFIG GET appendfsync") == {b"appendfsync": b"everysec"}
        assert "dot_collisions:" in client("INFO ringwise").decode()
        client.connection.session.clients.sync = "batch"
        assert client("CONFIG GET appendfsync") == {b"appendfsync": b"always"}
        assert client("CONFIG GET maxmemory*") == {b"maxmemory": b"0", b"maxmemory-policy": b"noeviction"}

    def test_before_there_is_a_document(self) -> None:
        client = Client(FakeNode(topology=Topology()))
        assert client("PING") == b"PONG"
        assert b"formed:0" in client("INFO") and client("CLUSTER INFO").startswith(
            b"cluster_enabled:1\r\ncluster_state:fail"
        )
        for line in ("CLUSTER SLOTS", "CLUSTER SHARDS"):
            assert client(line).startswith("CLUSTERDOWN ")


class TestTable:
    def test_command_describes_what_is_served(self) -> None:
        client = Client()
        assert client("COMMAND COUNT") == len(client("COMMAND")) == len(client("COMMAND LIST")) == len(TABLE.commands)
        ((name, arity, flags, first, last, step, *_),) = client("COMMAND INFO mset")
        assert (name, arity, flags, first, last, step) == (b"mset", -3, [b"write", b"denyoom"], 1, -1, 2)
        assert client("COMMAND INFO nope") == [None]
        assert client("COMMAND DOCS get nope")[b"get"][b"group"] == b"string"

    def test_keys(self) -> None:
        client = Client()
        assert client("COMMAND GETKEYS MSET a 1 b 2") == [b"a", b"b"]
        assert client("COMMAND GETKEYS RW.AT one RW.GET k") == [b"k"]

    def test_no_command_can_be_broken_by_its_arity(self) -> None:
        """Every command with one to five arguments gives one reply, whatever they are."""
        for command in TABLE.commands.values():
            names = [[command.name], *([command.name, sub.name] for sub in command.subcommands)]
            for name in names:
                for count in range(6 - len(name)):
                    reply = Client()("", *name, *["1"] * count)
                    assert reply is not False, (name, count)
